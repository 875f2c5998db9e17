import numpy as np
import pytest
from ase.build import bulk

from nearedge.bench.base import BenchResult
from nearedge.bench.generation_picture import draw
from nearedge.bench.generation_rows import Point, contact_row, evaluation_rows, quality_rows


def structure(seed, rattle_a=0.05, lattice_a=3.567):
    atoms = bulk("C", "diamond", lattice_a, cubic=True)
    atoms.rattle(rattle_a, seed=seed)
    return atoms


def point(**changes):
    values = {
        "atoms": 8,
        "density_g_cm3": 3.5,
        "left_out": False,
        "raw": [structure(k) for k in range(4)],
        "failures": 0,
        "seconds": 2.0,
        "refined": [structure(k) for k in range(10, 14)],
        "displacements_a": [0.1, 0.2, 0.3],
        "reference": [structure(k) for k in range(20, 24)],
        "judge": "oracle",
        "raw_energies": [-10.0, -9.9, -9.8],
        "refined_energies": [-10.08, -10.06],
        "reference_energies": [-10.1, -10.1, -10.12],
    }
    return Point(**{**values, **changes})


def row(rows, words):
    (found,) = [row for row in rows if words in row.what]
    return found


def test_like_ensembles_pass():
    rows = quality_rows([point()])
    assert row(rows, "g(r)").measured == pytest.approx(1.0, abs=0.25)
    assert row(rows, "g(r)").passed
    assert row(rows, "shares off").measured == 0
    assert row(rows, "raw, oracle").measured == pytest.approx(0.2)
    assert row(rows, "raw, oracle").passed
    assert row(rows, "the same refined").measured == pytest.approx(0.03)
    assert row(rows, "displacement").measured == pytest.approx(0.2)
    assert row(rows, "rings of 6").measured == row(rows, "rings of 6").baseline == 2


def test_other_structures_fail():
    stretched = [structure(k, lattice_a=4.2) for k in range(4)]  # bonds at the limit of what counts as one
    rows = quality_rows([point(refined=stretched, refined_energies=[-9.0])])
    assert not row(rows, "g(r)").passed
    assert not row(rows, "the same refined").passed


def test_a_good_density_does_not_hide_a_bad_one():
    bad = point(density_g_cm3=2.0, raw_energies=[-9.0])
    rows = quality_rows([point(), bad])
    worst = row(rows, "raw, oracle")
    assert worst.measured == pytest.approx(1.1)
    assert "2 g/cm³" in worst.what
    assert not worst.passed


def test_left_out_densities_have_rows_of_their_own():
    rows = quality_rows([point(), point(left_out=True, raw_energies=[-9.5])])
    assert row(rows, "seen: median energy").passed
    assert not row(rows, "left out: median energy").passed


def test_missing_energies_do_not_pass():
    assert not row(quality_rows([point(raw_energies=[])]), "raw, oracle").passed


def test_contacts_and_failures_count():
    near = structure(0)
    near.positions[1] = near.positions[0] + [1.0, 0, 0]
    good = contact_row([point()])
    assert (good.measured, good.passed) == (1.0, True)
    assert good.baseline == pytest.approx(0.025 ** (1 / 4))
    bad = contact_row([point(raw=[structure(1), near], failures=2)])
    assert bad.measured == pytest.approx(0.25)
    assert not bad.passed


def test_the_picture_is_drawn(tmp_path):
    table = [
        {
            "evaluations": steps,
            "g_r_ratio": 1.2,
            "share_difference_points": 3.0,
            "energy_above_reference_ev_per_atom": 0.3,
            "seconds_per_structure": 0.5,
        }
        for steps in (25, 100)
    ]
    assert len(evaluation_rows(table)) == 2
    points = [point().record(), point(density_g_cm3=2.0, left_out=True).record()]
    assert np.shape(points[0]["g_r"]["raw"]) == (120,)
    draw(BenchResult("generation", [], {"points": points, "evaluations": table}), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000
