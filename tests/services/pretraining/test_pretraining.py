"""Models from nothing: what training may see, jobs that are whole or missing, and the pipeline itself."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.inference.library import read_library
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.pretraining.frames import networks, read_frames
from nearedge_services.pretraining.jobs import rattled, run_job
from nearedge_services.pretraining.pipeline import pretrain
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.pretraining.trainings import prior_split, seen, split
from nearedge_services.structures.compact import read_networks
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.extxyz import read_structures
from nearedge_services.weights.labels import LabelledBy, labelled_by

TINY = {
    "small_atoms": 8,
    "first_networks": 3,
    "first": {"relax_steps": 1, "path_frames": 1, "rattle_a": [0.05]},
    "hot_networks": 1,
    "hot_frames": 2,
    "rounds": 1,
    "round_networks": 2,
    "round_quench": {"quench_steps": 10, "hold_steps": 2, "relax_steps": 2, "snapshots": 2},
    "network_atoms": 8,
    "networks": 8,
    "network_quench": {"quench_steps": 10, "hold_steps": 2, "relax_steps": 2},
    "network_anneal": {"steps": 4},
    "batch": 4,
    "generated": 6,
    "generated_evaluations": [3, 5],
    "held_out_every": 3,
    "potential": {"members": 1, "steps": 10, "bootstrap": False},
    "models": {
        "prior": {"steps": 5},
        "surrogate": {"steps": 5},
        "potential": {"steps": 5, "members": 2},
    },
}


def frame(group, density):
    """A frame that belongs to a network of a density."""
    return Atoms("C", cell=[3, 3, 3], pbc=True, info={"group": group, "density_g_cm3": density})


@dataclass(frozen=True)
class FakeJob:
    """Makes what it is told, or fails."""

    path: Path
    frames: list[Atoms] | None

    def make(self):
        """The frames."""
        if self.frames is None:
            raise RuntimeError("broken")
        return self.frames


def test_densities_fill_the_range_and_compositions_fit():
    """Every tenth of the range has networks."""
    settings = PretrainingSettings(unit="SiC", density_g_cm3=(2.0, 3.0))
    densities = settings.densities(40, 0.3)
    assert min(np.histogram(densities, bins=10, range=(2.0, 3.0))[0]) >= 3
    assert settings.formula(64) == "Si32C32"
    assert PretrainingSettings().formula(32) == "C32"


def test_left_out_densities_are_never_seen():
    """The bands of the settings, ends included."""
    settings = PretrainingSettings(left_out_g_cm3=((2.1, 2.3),))
    assert [seen(frame("a", d), settings) for d in (2.0, 2.1, 2.2, 2.3, 2.31)] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_held_out_groups_are_whole_and_spread_over_the_densities():
    """No group on both sides; low, middle and high densities are judged."""
    settings = PretrainingSettings(held_out_every=5)
    frames = [frame(f"network-{k}", 1.4 + 0.1 * k) for k in range(20) for _ in range(3)]
    train, held_out = split(frames, settings)
    assert not {a.info["group"] for a in train} & {a.info["group"] for a in held_out}
    assert len(train) + len(held_out) == 60
    densities = sorted({a.info["density_g_cm3"] for a in held_out})
    assert len(densities) == 4
    assert densities[0] < 1.8
    assert densities[-1] > 3.0


def test_the_prior_learns_from_every_kept_network():
    """They were chosen once already; new ones are split as ever. Rattled copies are no networks."""
    kept = [frame(f"kept-{k}", 1.4 + 0.1 * k) for k in range(20)]
    made = [frame(f"network-{k}", 1.4 + 0.02 * k) for k in range(20)]
    for atoms in (*kept, *made):
        atoms.info["network"] = True
    train, held_out = prior_split([*kept, *made, frame("kept-0", 1.4)], PretrainingSettings(held_out_every=5))
    assert [a.info["group"] for a in train[:20]] == [a.info["group"] for a in kept]
    assert len(train) == 36
    assert len(held_out) == 4


def test_a_job_is_done_once_and_leaves_nothing_behind_when_it_fails(tmp_path):
    """A file that is there is not made again; an empty result counts as done."""
    job = FakeJob(tmp_path / "a.extxyz", [frame("a", 2.0)])
    assert run_job(job) == 1
    assert run_job(job) == 0
    assert run_job(FakeJob(tmp_path / "empty.extxyz", [])) == 0
    assert (tmp_path / "empty.extxyz").exists()
    with pytest.raises(RuntimeError, match="broken"):
        run_job(FakeJob(tmp_path / "b.extxyz", None))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.extxyz", "empty.extxyz"]


def test_rattled_copies_have_the_asked_sizes():
    """Root mean square displacement per direction."""
    atoms = Atoms("C400", positions=np.zeros((400, 3)), cell=[20, 20, 20], pbc=True)
    for copy, size in zip(rattled(atoms, (0.05, 0.2), 3), (0.05, 0.2), strict=True):
        assert copy.positions.std() == pytest.approx(size, rel=0.1)


@pytest.mark.slow
def test_pipeline_from_nothing_to_models(tmp_path):
    """Every stage for real, in its smallest form; the second call makes nothing again; other settings are refused."""
    settings = PretrainingSettings.model_validate(TINY)
    stages = []
    record = pretrain(tmp_path, settings, 2, lambda name, done, total: stages.append((name, done, total)))
    assert set(record["metrics"]) == {"prior", "surrogate", "potential"}
    assert len(networks(read_frames(tmp_path, "network"))) == 8
    annealed = read_frames(tmp_path, "annealed")
    found = networks(annealed)
    assert len(found) < len(annealed)
    assert len(found) == 8 == len(read_structures(tmp_path / "networks.extxyz"))
    for atoms in found:
        assert density_g_cm3(atoms) == pytest.approx(atoms.info["density_g_cm3"], abs=1e-3)
        assert np.isfinite(atoms.info["REF_energy"])
    generated = read_frames(tmp_path, "generated")
    assert 0 < len(generated) <= 6
    assert len({atoms.info["group"] for atoms in generated}) == len(generated)
    assert all(np.isfinite(atoms.info["REF_energy"]) for atoms in generated)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "frames").iterdir()}
    weights = (tmp_path / "models" / "prior" / "weights.safetensors").read_bytes()
    assert pretrain(tmp_path, settings, 1, lambda *_: None)["metrics"] == record["metrics"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "frames").iterdir()} == times
    assert (tmp_path / "models" / "prior" / "weights.safetensors").read_bytes() == weights
    written = json.loads((tmp_path / "pretraining.json").read_text())
    assert written["networks"] == 8
    assert labelled_by(tmp_path / "models") == LabelledBy.of(make_oracle("xtb", {}))
    with pytest.raises(UserError, match="other settings"):
        pretrain(tmp_path, settings.model_copy(update={"seed": 1}), 1, lambda *_: None)
    start_from(tmp_path, settings)


def start_from(first, settings):
    """Models from those: thin networks anew, the others kept, the potential as it was."""
    values = {"anew_g_cm3": (1.4, 2.2), "networks": 4, "network_anneal": None}
    settings = PretrainingSettings.model_validate({**settings.model_dump(), **values})
    second = first / "second"
    record = pretrain(second, settings, 2, lambda *_: None, start=first)
    kept, made = networks(read_frames(second, "kept")), networks(read_frames(second, "network"))
    assert kept
    assert len(made) == 4
    assert all(density_g_cm3(atoms) > 2.2 for atoms in kept)
    assert all(density_g_cm3(atoms) < 2.2 for atoms in made)
    assert record["networks"] == len(kept) + 4
    assert record["start"] == json.loads((first / "pretraining.json").read_text())
    weights = [folder / "models" / "potential" / "weights.safetensors" for folder in (first, second)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    before, now = (read_library(folder / "models" / "library.npz") for folder in (first, second))
    assert len(now) == 4 + sum(before.densities_g_cm3 > 2.2)
    assert pretrain(second, settings, 1, lambda *_: None, start=first)["metrics"] == record["metrics"]
    potential_from(second, settings)


def potential_from(start, settings):
    """A potential of its own, of the start's networks, a round of quenches and refined structures; everything else is
    the start's.
    """
    values = {"renews": "potential", "anew_g_cm3": None, "rounds": 1, "refined": 3}
    settings = PretrainingSettings.model_validate({**settings.model_dump(), **values})
    folder = start / "third"
    record = pretrain(folder, settings, 2, lambda *_: None, start=start)
    learnt_from = len(read_networks(start / "models" / "training_networks.npz"))
    assert len(networks(read_frames(folder, "kept"))) == record["networks"] == learnt_from
    assert read_frames(folder, "round1")
    refined = read_frames(folder, "refined")
    assert 0 < len({atoms.info["group"] for atoms in refined}) <= 3
    for name in ("potential/metrics.json", "potential/weights.safetensors"):
        assert (folder / "models" / name).read_bytes() != (start / "models" / name).read_bytes()
    for name in (
        "prior/weights.safetensors",
        "surrogate/config.json",
        "library.npz",
        "training_networks.npz",
    ):
        assert (folder / "models" / name).read_bytes() == (start / "models" / name).read_bytes()
    assert set(record["metrics"]) == {"prior", "surrogate", "potential"}
    assert pretrain(folder, settings, 1, lambda *_: None, start=start)["metrics"] == record["metrics"]
