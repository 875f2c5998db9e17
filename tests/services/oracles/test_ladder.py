"""The failure ladder: which settings follow which failures, and that none of them is what a label is made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearedge_db.errors import UserError
from nearedge_services.oracles import errors
from nearedge_services.oracles.errors import FailureKind, OracleCrash, OracleError, OutOfMemory
from nearedge_services.oracles.espresso import EspressoSettings
from nearedge_services.oracles.factory import ORACLES
from nearedge_services.oracles.feff import FeffSettings
from nearedge_services.oracles.gpaw import GpawSettings
from nearedge_services.oracles.ladder import LADDERS, changed, changes_after
from nearedge_services.oracles.xtb import XtbSettings

SETTINGS = {"xtb": XtbSettings, "gpaw": GpawSettings, "espresso": EspressoSettings, "feff": FeffSettings}
PHYSICS = {
    "cutoff",
    "k_points",
    "k_spacing",
    "smearing",
    "sigma",
    "hole",
    "window",
    "tolerance",
    "l_max",
    "r_",
}


def asked(name, **run):
    """Settings as they were asked for, with some of `run`."""
    values = SETTINGS[name]().model_dump(mode="json")
    return changed(values, {f"run.{key}": value for key, value in run.items()})


def test_every_oracle_has_a_ladder_and_every_error_a_kind():
    """Nothing is left to chance when an oracle is added."""
    assert set(LADDERS) == set(ORACLES) == set(SETTINGS)
    kinds = [error.kind for error in OracleError.__subclasses__()]
    assert sorted(kinds) == sorted(FailureKind)
    assert errors.NotConverged.kind is FailureKind.NOT_CONVERGED


@pytest.mark.parametrize("name", sorted(LADDERS))
def test_all_rungs_are_valid_settings_that_leave_the_physics_alone(name):
    """Each rung gives settings that the oracle accepts; none touches what decides the answer."""
    values = asked(name) if name == "xtb" else asked(name, workers=4, seconds=60.0, memory_gib=1.0)
    for kind, rungs in LADDERS[name].items():
        for count in range(1, len(rungs) + 1):
            changes = changes_after(name, values, [kind] * count)
            SETTINGS[name].model_validate(changed(values, changes))
            assert not any(key.startswith(part) for key in changes for part in PHYSICS)
        assert changes_after(name, values, [kind] * (len(rungs) + 1)) is None


@pytest.mark.parametrize("name", sorted(LADDERS))
@pytest.mark.parametrize("kind", [FailureKind.BAD_GEOMETRY, FailureKind.UNFIT_SETTINGS])
def test_what_another_try_cannot_mend_is_given_up_at_once(name, kind):
    """No worker spends a second on it."""
    assert changes_after(name, asked(name), [kind]) is None


@pytest.mark.parametrize("name", sorted(LADDERS))
def test_what_one_machine_lacks_is_tried_again_as_it_was(name):
    tries = [changes_after(name, asked(name), [FailureKind.MISSING_DATA] * count) for count in (1, 2, 3)]
    assert tries == [{}, {}, None]


def test_kinds_are_climbed_side_by_side():
    """A timeout after a failure to converge keeps what that one changed."""
    values = asked("gpaw", seconds=100.0, workers=4)
    assert changes_after("gpaw", values, ["not converged", "timeout", "out of memory"]) == {
        "iterations": 300,
        "run.mixing": 0.05,
        "run.seconds": 300.0,
        "run.workers": 2,
        "run.elsewhere": 0,
        "run.eigensolver": "cg",
    }
    alone = {"run.workers": 1, "run.elsewhere": 0, "run.eigensolver": "cg"}
    assert changes_after("gpaw", values, ["out of memory", "out of memory"]) == alone


@given(st.lists(st.sampled_from(["lost", "cancelled", "done"]), max_size=6))
def test_what_says_nothing_of_the_structure_changes_nothing(history):
    """A killed worker is no failure of the calculation."""
    assert changes_after("feff", asked("feff"), history) == {}


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ZeroDivisionError("division by zero"), OracleCrash),
        (MemoryError(), OutOfMemory),
        (errors.BadGeometry("atoms overlap"), errors.BadGeometry),
        (UserError("unknown element", got="X", fix="use another"), errors.UnfitSettings),
        (errors.NotInstalled("no pw.x", fix="install it"), errors.MissingData),
    ],
)
def test_what_nobody_foresaw_is_a_crash_with_its_text(raised, kind):
    """All else keeps its kind; a UserError in one label is a failure of that label."""
    with pytest.raises(kind, match=str(raised) or "MemoryError"), errors.classified():
        raise raised


def test_a_limit_that_nobody_set_stays_unset():
    """Three times no limit is no limit."""
    assert changes_after("espresso", asked("espresso"), ["timeout"]) == {}


def test_an_oracle_without_a_ladder_is_tried_once():
    """Somebody's own oracle."""
    assert changes_after("mine", {}, []) == {}
    assert changes_after("mine", {}, ["crash"]) is None


def test_bands_that_do_not_fill_the_window_are_made_enough():
    """A label that needs more than the settings say does not stop a campaign, and is not tried in vain."""
    values = {**asked("gpaw"), "bands_per_atom": 4.0}
    changes = changes_after("gpaw", values, ["not converged"])
    assert changes["bands_per_atom"] is None
    assert GpawSettings.model_validate(changed(values, changes)).bands_per_atom is None
    assert "bands_per_atom" not in changes_after("gpaw", asked("gpaw"), ["not converged"])
