"""The gate: which candidates may cost a label."""

import numpy as np
import pytest

from nearedge.config import GateConfig
from nearedge.gate import EnergyReference, Measures, judge

REFERENCE = EnergyReference(np.array([2.0, 3.0]), np.array([-50.0, -52.0]))
GATE = GateConfig()
GOOD = {
    "contact": 0.9,
    "overcoordinated_fraction": 0.0,
    "density_g_cm3": 2.0,
    "energy_per_atom_ev": -50.0,
    "nearest_fingerprint": 1.0,
}


def verdict(gate: GateConfig = GATE, **changes: float):
    return judge(Measures(**{**GOOD, **changes}), REFERENCE, gate, novelty=0.1)


def test_a_good_candidate_passes():
    assert verdict().passed
    assert verdict().reason is None


def test_a_first_candidate_knows_no_neighbour_but_is_not_rejected_for_nan():
    assert not verdict(nearest_fingerprint=float("nan")).passed


@pytest.mark.parametrize("measure", sorted(GOOD))
def test_nan_in_any_measure_rejects(measure):
    assert not verdict(**{measure: float("nan")}).passed


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"contact": 0.74}, "contact"),
        ({"overcoordinated_fraction": 0.06}, "coordination"),
        ({"energy_per_atom_ev": -49.3}, "energy"),
        ({"nearest_fingerprint": 0.09}, "known"),
        ({"energy_per_atom_ev": float("inf")}, "non-finite"),
    ],
)
def test_each_limit_has_its_own_first_word(changes, word):
    result = verdict(**changes)
    assert not result.passed
    assert result.reason.split()[0].rstrip(":") == word


def test_the_limits_themselves_pass():
    assert verdict(contact=GATE.min_contact, overcoordinated_fraction=0.05, nearest_fingerprint=0.1).passed


def test_the_first_of_all_candidates_is_new():
    """Infinitely far from nothing."""
    assert verdict(nearest_fingerprint=float("inf")).passed


def test_energy_is_compared_with_structures_of_the_same_density():
    """-50 eV is as good as the starting structures at 2 g/cm³ and 2 eV above them at 3 g/cm³."""
    assert verdict(density_g_cm3=2.0).passed
    assert not verdict(density_g_cm3=3.0).passed


def test_reference_is_a_kernel_weighted_mean():
    reference = EnergyReference(np.array([2.0, 2.4]), np.array([-50.0, -51.0]), bandwidth_g_cm3=0.2)
    assert reference.at(2.2) == pytest.approx(-50.5)
    share = np.exp(-2.0)  # two bandwidths away
    assert reference.at(2.0) == pytest.approx((-50.0 - 51.0 * share) / (1 + share))


def test_reference_far_from_every_structure_is_the_nearest_one():
    assert REFERENCE.at(30.0) == pytest.approx(-52.0)
    assert np.isfinite(REFERENCE.at(1e6))
