"""The bench ``surrogate``: its figures are those of the structures it was given, and its limits can fail."""

import numpy as np
import pytest
from ase.build import bulk
from tests.platform.tiny_models import write_models

from nearedge.bench.base import BenchOptions, BenchResult
from nearedge.bench.surrogate import SurrogateBench, SurrogateBenchSettings
from nearedge.bench.surrogate_rows import LEVELS, rows
from nearedge_services.structures.extxyz import write_structures


def lot(error: float, coverage: float = 0.9) -> dict:
    """What is measured on a lot: baselines of 1 and 2 in units of 10⁻³/eV."""
    errors = {
        f"{key}{suffix}": 1e-3 * value
        for key in ("per_atom_rmse", "cell_mean_rmse")
        for suffix, value in (("", error), ("_baseline", 1.0), ("_global", 2.0))
    }
    covered = [level * coverage / 0.9 for level in LEVELS]
    return {
        "structures": 3, **errors, "coverage_90": coverage, "distance_coverage_90": coverage,
        "levels": LEVELS, "covered": covered,
    }  # fmt: skip


SPEED = {"atoms": 8, "prediction": 3.0, "gradient": 2.0, "noise_aware_gradient": None}


def verdicts(measured: dict) -> list[bool]:
    return [row.passed for row in rows({"left": measured}, None, SPEED, None) if row.passed is not None]


@pytest.mark.parametrize(
    ("error", "coverage", "expected"),
    [
        (0.4, 0.9, [True, True, True, True]),
        (0.6, 0.9, [False, False, True, True]),
        (0.4, 0.7, [True, True, False, True]),
        (0.4, 0.99, [True, True, True, False]),
        (float("nan"), 0.9, [False, False, True, True]),
    ],
)
def test_limits(error, coverage, expected):
    assert verdicts(lot(error, coverage)) == expected


def test_every_error_stands_beside_both_baselines():
    table = rows(
        {"left": lot(0.4)}, [{"sigma_a": 0.1, "cell_mean_rmse": 2e-3, "cell_mean_spread": 9e-3}], SPEED, None
    )
    assert [row.baseline for row in table[:4]] == pytest.approx([1.0, 2.0, 1.0, 2.0])
    assert [row.limit for row in table[:4]] == [0.5, None, 0.5, None]
    (noisy,) = [row for row in table if "noise of 0.1" in row.what]
    assert (noisy.measured, noisy.baseline) == pytest.approx((2.0, 9.0))


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> BenchResult:
    """The bench on untrained models and a file of rattled crystals."""
    folder = tmp_path_factory.mktemp("bench")
    models = write_models(folder / "models")
    structures = []
    for seed, lattice in enumerate((3.5, 3.6, 3.75)):
        atoms = bulk("C", "diamond", lattice, cubic=True)
        atoms.rattle(0.05, seed=seed)
        structures.append(atoms)
    write_structures(folder / "reference.extxyz", structures)
    settings = SurrogateBenchSettings(
        atoms=8, rattle_a=(0.05,), generated=1, sigmas_a=(), refit=False, timings=1
    )
    options = BenchOptions(folder, seed=1, models=models, reference=folder / "reference.extxyz")
    bench = SurrogateBench(settings)
    found = bench.run(options, lambda share, what: None)
    bench.draw(found, folder / "surrogate.png")
    assert (folder / "surrogate.png").stat().st_size > 10_000
    return found


@pytest.mark.slow
def test_given_structures_are_labelled_and_measured(result):
    lots = result.data["lots"]
    assert "networks at densities left out of training" not in lots  # nothing says what the models have seen
    networks, displaced = lots["networks at densities of the training"], lots["displaced networks"]
    assert networks["structures"] == displaced["structures"] == 3
    assert all(np.isfinite(networks[name]) for name in ("per_atom_rmse", "cell_mean_rmse"))
    assert result.data["milliseconds"]["gradient"] > 0
    assert result.data["noise"] is None


@pytest.mark.slow
def test_an_untrained_surrogate_fails(result):
    judged = [row.passed for row in result.rows if row.passed is not None]
    assert not all(judged)
