"""Carbon's numbers carried over to other materials."""

import pytest
from ase.build import bulk

from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.material import Scales, packing_fraction


def test_crystals_of_known_packing():
    """Spheres of 0.76 Å (carbon) and 1.11 Å (silicon), eight to a cell."""
    assert packing_fraction(bulk("C", "diamond", 3.567)) == pytest.approx(0.324, abs=1e-3)
    assert packing_fraction(bulk("Si", "diamond", 5.431)) == pytest.approx(0.286, abs=1e-3)


def test_carbon_is_the_unit():
    assert Scales.of(parse_composition("C8")) == Scales(1.0, 1.0)
    silicon, carbide = Scales.of(parse_composition("Si8")), Scales.of(parse_composition("SiC"))
    assert 1 < carbide.length < silicon.length
    assert silicon.temperature < carbide.temperature < 1
