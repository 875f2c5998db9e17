"""What is said of a confirmation."""

from dataclasses import replace

from nearedge.confirmed import Checked, Confirmation, CorrectionError
from nearedge.confirmed_words import HEADER, rows, sentences

FOUND = Confirmation(
    oracle="gpaw",
    wanted=2,
    structures=(
        Checked(7, "guided", 0.003, 0.010, -9.0, 0.011, confirmed=True),
        Checked(9, "guided", 0.004, 0.030, -8.5, None, confirmed=False),
        Checked(1, "seed", 0.020, 0.020, -8.8, 0.021, confirmed=False),
    ),
    shift_ev=-1.25,
    shift_range_ev=(-1.5, -0.75),
    residual=0.025,
    unplaced=None,
    correction=CorrectionError(pairs=8, shift_ev=1.2, error=0.004, shifted_error=0.009, constant_error=0.006),
    refusal=None,
)


def test_every_structure_has_a_row_with_both_distances():
    table = rows(FOUND)
    assert all(len(row) == len(HEADER) for row in table)
    assert table[0] == ("no. 7", "3.00", "10.00", "11.00", "+0.000", "confirmed")
    assert table[1] == ("no. 9", "4.00", "30.00", "—", "+0.500", "not confirmed")
    assert table[2] == ("no. 1 (start)", "20.00", "20.00", "21.00", "+0.200", "")


def test_how_many_are_confirmed_is_said_first():
    said = sentences(FOUND)
    assert said[0].startswith("gpaw confirms 1 of 2 best structures")
    assert "1 starting structures (20.00)" in said[0]
    assert "-1.25 eV on the target's axis (-1.50 to -0.75 are about as good)" in said[1]
    assert "error of 4.00" in said[-1]
    assert said[-1].endswith("it has learnt how structures differ.")


def test_a_correction_without_skill_is_called_so():
    useless = replace(FOUND, correction=replace(FOUND.correction, error=0.0058))
    assert "it has learnt next to nothing of how structures differ" in sentences(useless)[-1]


def test_what_is_missing_is_said():
    empty = replace(
        FOUND,
        structures=(),
        shift_ev=None,
        shift_range_ev=None,
        residual=None,
        unplaced="too short",
        correction=None,
        refusal="no pair",
    )
    said = sentences(empty)
    assert said[0] == "gpaw has labelled none of the 2 best structures yet."
    assert said[1] == "There are no distances by the second oracle: too short."
    assert said[2] == "No correction between the two oracles: no pair."
    assert len(said) == 3
