"""The bench of sizes: statistics of local order, costs, and a run with a tiny prior."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from nearedge.bench import scale
from nearedge.bench.base import BenchOptions
from nearedge.bench.local_order import LocalOrder, boxes_of, difference, local_order, mean_and_error
from nearedge.bench.paper_network import CUTOFF_A, PaperNetwork, edges_of
from nearedge.bench.record import document
from nearedge.bench.scale_task import ScaleRecord, ScaleTask, measure, peak_memory, run_task
from nearedge_db.errors import UserError
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings
from nearedge_services.networks.graph import Batch
from nearedge_services.structures.coordination import coordination_fractions
from nearedge_services.structures.rdf import radial_distribution


@pytest.fixture
def gas():
    rng = np.random.default_rng(0)
    cell = np.array([[26.0, 0, 0], [4, 27, 0], [-3, 2, 25]])
    return Atoms("C1800", positions=rng.random((1800, 3)) @ cell, cell=cell, pbc=True)


@pytest.fixture
def models(tmp_path):
    torch.manual_seed(0)
    settings = PriorSettings(n_scalar=4, n_vector=3, n_radial=4, n_layers=1, cutoff_a=2.5)
    Prior(["C"], settings).save(tmp_path / "models" / "prior")
    return tmp_path / "models"


def record(n_atoms, microseconds, kib, **changes):
    values = {
        "n_atoms": n_atoms,
        "count": 1,
        "wall_s": 2e-4 * microseconds * n_atoms,
        "cpu_s": 1e-4 * microseconds * n_atoms,
        "evaluations": 100,
        "atom_evaluations": 100 * n_atoms,
        "batch_atoms": n_atoms,
        "base_bytes": 2**28,
        "peak_bytes": 2**28 + int(kib * 1024 * n_atoms),
        "alone_s": None,
    }
    return ScaleRecord(**(values | changes))


def test_boxes_divide_a_large_structure_into_samples(gas):
    boxes = boxes_of(gas)
    assert np.bincount(boxes).shape == (8,)
    assert np.bincount(boxes).min() > 170
    inside = gas.get_scaled_positions()[boxes == 5]
    assert ((inside[:, 0] >= 0.5) & (inside[:, 1] < 0.5) & (inside[:, 2] >= 0.5)).all()
    assert (boxes_of(gas[:200]) == 0).all()


def test_samples_average_to_the_whole(gas):
    order = local_order([gas])
    sizes = np.bincount(boxes_of(gas))
    expected = radial_distribution([gas], bins=60, sigma=0)[1]
    np.testing.assert_allclose(np.average(order.g_r, axis=0, weights=sizes), expected, atol=1e-9)
    shares = np.average(order.shares, axis=0, weights=sizes)
    fractions = coordination_fractions(gas)
    np.testing.assert_allclose(shares, [fractions[2], fractions[3], fractions[4]], atol=1e-12)
    assert order.g_r.shape == (8, len(LocalOrder.radii()))


def test_errors_of_an_ideal_gas_are_those_of_counting(gas):
    _, error = mean_and_error(local_order([gas]).g_r)
    radii = LocalOrder.radii()
    pairs = 1800**2 / gas.cell.volume * 4 * np.pi * radii**2 * 0.1  # directed
    expected = np.sqrt(2 / pairs)
    far = radii > 3
    assert 0.6 < np.sqrt(np.mean(error[far] ** 2) / np.mean(expected[far] ** 2)) < 1.6


def test_difference_of_means_and_too_few_samples():
    one, other = np.array([[1.0], [3.0]]), np.array([[5.0], [5.0], [8.0]])
    gap, error = difference(one, other)
    assert gap == pytest.approx([4.0])
    assert error == pytest.approx([np.hypot(1.0, 1.0)])
    with pytest.raises(ValueError, match="1 samples"):
        mean_and_error(one[:1])


def test_local_order_tells_crystals_from_gases(gas):
    rng = np.random.default_rng(1)
    diamonds = [bulk("C", cubic=True) * (2, 2, 2) for _ in range(4)]
    for atoms in diamonds:
        atoms.rattle(0.02, rng=rng)
    orders = {64: local_order(diamonds), 1800: local_order([gas])}
    assert [row.passed for row in scale.order_rows(orders)] == [False, False]
    assert [row.passed for row in scale.order_rows({64: local_order([gas]), 1800: local_order([gas])})] == [
        True,
        True,
    ]


def test_rows_of_costs_judge_growth_with_size():
    flat = scale.cost_rows([record(64, 50, 40), record(1000, 45, 30), record(64000, 60, 6)], threads=1)
    verdicts = {row.what: row.passed for row in flat if row.passed is not None}
    assert len(verdicts) == 4
    assert all(verdicts.values())
    grown = scale.cost_rows(
        [record(64, 50, 40), record(64000, 500, 400, evaluations=200, atom_evaluations=200 * 64000)],
        threads=1,
    )
    assert [row.passed for row in grown if row.passed is not None] == [False, False, False, False]
    assert [row.measured for row in grown if row.what.startswith("evaluations")] == [200]


def test_wall_time_counts_with_threads():
    found = scale.derived(record(1000, 50, 30), threads=1)
    assert found["us_per_atom_evaluation"] == pytest.approx(50)
    assert found["kib_per_atom"] == pytest.approx(30)
    assert scale.derived(record(1000, 50, 30), threads=2)["us_per_atom_evaluation"] == pytest.approx(100)


def test_the_stand_in_has_edges_within_its_cutoff():
    batch = Batch.from_atoms([bulk("C", cubic=True) * (2, 2, 2)], ("C",))
    i, j, vectors = edges_of(batch)
    assert len(i) == 64 * (4 + 12 + 12)  # three shells: 1.54, 2.52, 2.96 Å
    assert (vectors.norm(dim=-1) < CUTOFF_A).all()
    assert (i != j).all()
    level = torch.full((64, 1), 0.2)
    network, same, other = PaperNetwork(0), PaperNetwork(0), PaperNetwork(1)
    out = network(level, i, j, vectors)
    assert out.shape == (64, 3)
    assert torch.equal(out, same(level, i, j, vectors))
    assert not torch.allclose(out, other(level, i, j, vectors))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.5e6, rel=0.1)


def test_a_whole_run(models, tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "SHORT_COUNTS", {8: 3, 12: 2})
    monkeypatch.setattr(scale, "PAPER_ATOMS", 16)
    monkeypatch.setattr(scale, "run_task", lambda task, at: (measure(task), at(2 * task.steps))[0])
    reported = []
    bench, options = scale.ScaleBench(), BenchOptions(tmp_path, short=True, models=models)
    result = bench.run(options, lambda share, text: reported.append((share, text)))
    whole = json.loads(json.dumps(document(result, options, 1.0)))
    assert [size["count"] for size in whole["data"]["sizes"]] == [3, 2]
    assert whole["data"]["sizes"][0]["batch_atoms"] == 24
    assert whole["data"]["sizes"][0]["evaluations_per_structure"] == SamplerSettings().steps
    assert whole["data"]["paper"]["ratio"] > 0
    assert [share for share, _ in reported] == sorted(share for share, _ in reported)
    assert reported[-1] == (1.0, "2 × 12 atoms")
    bench.draw(result, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_a_task_runs_in_its_own_process(models, tmp_path):
    files = {"structures": str(tmp_path / "a.extxyz"), "record": str(tmp_path / "a.json")}
    task = ScaleTask(str(models / "prior"), n_atoms=20, count=2, steps=3, seed=5, threads=1, **files)
    seen = []
    found = run_task(task, seen.append)
    assert seen == [1, 2, 3]
    assert (found.evaluations, found.atom_evaluations, found.batch_atoms) == (3, 120, 40)
    assert 0 < found.base_bytes <= found.peak_bytes < 2**31
    again = measure(replace(task, structures=str(tmp_path / "b.extxyz")))
    assert again.atom_evaluations == 120
    assert (tmp_path / "a.extxyz").read_text() == (tmp_path / "b.extxyz").read_text()


def test_a_failed_size_says_why(models, tmp_path):
    files = {"structures": str(tmp_path / "a.extxyz"), "record": str(tmp_path / "a.json")}
    task = ScaleTask(str(tmp_path / "none"), n_atoms=8, count=1, steps=1, seed=0, threads=1, **files)
    with pytest.raises(RuntimeError, match="no model in this folder"):
        run_task(task, lambda _: None)


def test_a_prior_for_other_elements_is_refused_first(tmp_path):
    torch.manual_seed(0)
    Prior(["Si"], PriorSettings(n_scalar=4, n_vector=3, n_radial=4, n_layers=1)).save(tmp_path / "prior")
    with pytest.raises(UserError, match="C"):
        scale.ScaleBench().run(BenchOptions(tmp_path, models=tmp_path), lambda *_: None)


def test_peak_memory_is_plausible():
    before = peak_memory()
    block = np.ones(2**25)
    assert peak_memory() - before > 0.5 * block.nbytes
