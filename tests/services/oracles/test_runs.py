"""How many calculations follow each other in a label, by oracle and settings."""

import pytest

from nearedge_db.errors import UserError
from nearedge_services.oracles.base import runs_of
from nearedge_services.oracles.espresso import EspressoOracle, EspressoSettings
from nearedge_services.oracles.feff import FeffOracle, FeffSettings
from nearedge_services.oracles.gpaw import GpawOracle, GpawSettings
from nearedge_services.oracles.xtb import XtbOracle, XtbSettings

TWO = {"workers": 2}


@pytest.mark.parametrize(
    ("oracle", "runs"),
    [
        (XtbOracle(), 1),
        (XtbOracle(XtbSettings(core_hole="z+1")), 9),
        (GpawOracle(), 1),
        (GpawOracle(GpawSettings(core_hole="full")), 17),
        (GpawOracle(GpawSettings(core_hole="half", run=TWO)), 9),
        (GpawOracle(GpawSettings(core_hole="half", absorbers=(3,))), 3),
        (FeffOracle(), 8),
        (FeffOracle(FeffSettings(run={"workers": 3})), 3),
        (FeffOracle(FeffSettings(absorbers=(0, 1), run=TWO)), 1),
        (EspressoOracle(), 9),
        (EspressoOracle(EspressoSettings(run=TWO)), 5),
    ],
)
def test_eight_atoms_of_carbon(oracle, runs):
    assert runs_of(oracle, [6] * 8) == runs


def test_only_what_absorbs_counts():
    pseudopotentials = {"C": "C.UPF", "Si": "Si.UPF"}
    assert (
        EspressoOracle(EspressoSettings(pseudopotentials=pseudopotentials, core_energy_ev=390.0)).runs(
            [6, 6, 14, 14]
        )
        == 3
    )
    assert FeffOracle().runs([1, 6]) == 1
    with pytest.raises(UserError, match="not an atom"):
        FeffOracle(FeffSettings(absorbers=(7,))).runs([6, 6])
