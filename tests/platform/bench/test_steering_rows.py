import numpy as np
import pytest
from ase.build import bulk

from nearedge.bench.base import BenchResult
from nearedge.bench.inferring import inference_rows
from nearedge.bench.judging import Run, Verdict
from nearedge.bench.steering import curve_rows, steering_rows
from nearedge.bench.steering_picture import draw
from nearedge_services.inference.library import library_from
from nearedge_services.spectra.grid import EnergyGrid

GRID = EnergyGrid(0.0, 10.0, 0.25)


def verdict(distances, energy):
    structures = [bulk("C", "diamond", 3.567, cubic=True) for _ in distances]
    return Verdict(structures, distances, None, distances, [energy] * len(distances))


def run(distances, energy):
    return Run(verdict(distances, energy), verdict(distances, energy))


def test_steering_is_judged_by_medians_of_refined_structures():
    rows = steering_rows(
        3.0, 2.5, run([0.02, 0.03, 0.02], -10.0), run([0.01, 0.01], -9.95), verdict([0.016], -9.9)
    )
    assert rows[0].measured == pytest.approx(0.5)
    assert rows[0].baseline == pytest.approx(0.2)
    assert rows[0].passed
    assert rows[1].measured == pytest.approx(0.05)
    assert rows[1].passed


def test_too_little_gain_or_too_much_cost_fails():
    rows = steering_rows(3.0, 2.5, run([0.02], -10.0), run([0.015], -9.9), verdict([0.02], -10.0))
    assert [row.passed for row in rows[:2]] == [False, False]


def test_nothing_left_to_measure_does_not_pass():
    rows = steering_rows(3.0, 2.5, run([0.02], -10.0), run([], -10.0), verdict([], -10.0))
    assert [row.passed for row in rows[:2]] == [False, False]


def labelled(seed, four):
    """Eight atoms whose spectrum follows the density."""
    lattice = 3.567 * (1 + 0.1 * seed / 40)
    atoms = bulk("C", "diamond", lattice, cubic=True)
    rng = np.random.default_rng(seed)
    peak = 4 + 20 * (lattice - 3.567) + rng.normal(scale=0.05)
    atoms.info["xanes_energies"] = GRID.energies
    atoms.arrays["xanes"] = np.tile(np.exp(-0.5 * (GRID.energies - peak) ** 2), (8, 1))
    return atoms


def test_inference_rows_compare_with_knowing_nothing():
    frames = [labelled(k, 1.0) for k in range(41)]
    library = library_from(
        frames[::2],
        np.array([a.arrays["xanes"][0] for a in frames[::2]]) / 2.5,
        GRID,
        "C",
    )
    rows, data = inference_rows(library, frames[1::6], seed=0)
    density = rows[0]
    assert density.measured < 0.3 * density.baseline
    assert density.passed
    assert len(data["references"]) == 7
    low, middle, high = data["references"][0]["density_interval"]
    assert low < middle < high
    own = [row for row in rows if row.what.startswith("density: within the limit, library")]
    errors = [abs(r["density_interval"][1] - r["density_g_cm3"]) for r in data["leave_one_out"]]
    assert [row.measured for row in own] == [np.mean([error <= 0.15 for error in errors])]


def test_the_picture_is_drawn(tmp_path):
    point = {"raw": verdict([0.02], -10.0).record(), "refined": None}
    curve = [
        {"kind": "none", "scale": 0.0, **point},
        {"kind": "surrogate", "scale": 10.0, **point},
        {"kind": "surrogate", "scale": 30.0, **point},
    ]
    assert len(curve_rows(curve)) == 3
    steered = [
        {
            "target_g_cm3": 3.0,
            "cell_g_cm3": 2.5,
            "unguided": {"refined": verdict([0.03], -10.0).record()},
            "guided": {"refined": verdict([0.02], -10.0).record()},
            "refinement_alone": verdict([0.02], -10.0).record(),
        }
    ]
    inference = {"references": [{"density_g_cm3": 2.0, "density_interval": [1.9, 2.0, 2.2]}]}
    data = {"curve": curve, "steered": steered, "inference": inference}
    draw(BenchResult("steering", [], data), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000
