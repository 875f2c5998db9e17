import json

import numpy as np
import pytest
from ase.build import bulk

from nearedge.bench.base import BenchOptions
from nearedge.bench.memorisation import disguised, training_file
from nearedge.bench.references import References, Wanted, _batches, pair_spread
from nearedge.bench.workshop import Stages, Workshop, identity, left_out_bands
from nearedge_db.errors import UserError
from nearedge_services.networks.weights import CONFIG_FILE, WEIGHTS_FILE
from nearedge_services.potential.quench import QuenchSettings
from nearedge_services.structures.extxyz import write_structures
from nearedge_services.structures.matching import match


class FakeWorkshop:
    """A workshop without models."""

    def __init__(self, options):
        self.options = options
        (options.out / WEIGHTS_FILE).write_bytes(b"weights")
        (options.out / CONFIG_FILE).write_text("{}")
        self.names = {"potential": identity(options.out)}


def diamond(lattice_a=3.567, **info):
    atoms = bulk("C", "diamond", lattice_a, cubic=True)
    atoms.info.update(info)
    return atoms


def test_a_given_file_serves_every_size_but_not_every_density(tmp_path):
    write_structures(tmp_path / "r.extxyz", [diamond(), diamond(), diamond(3.8)])
    options = BenchOptions(tmp_path, reference=tmp_path / "r.extxyz")
    references = References(FakeWorkshop(options), QuenchSettings())
    assert references.densities() == pytest.approx([2.91, 3.52], abs=0.01)
    assert len(references.find(Wanted(64, 3.52, 1))) == 2
    references.make([Wanted(64, 3.52, 5)], lambda share, what: None)
    with pytest.raises(UserError, match=r"2 g/cm³"):
        references.make([Wanted(64, 2.0, 1)], lambda share, what: None)


def test_kept_networks_are_found_again_if_they_were_made_alike(tmp_path):
    options = BenchOptions(tmp_path, models=tmp_path)
    References(FakeWorkshop(options), QuenchSettings())
    ours = identity(tmp_path)
    kept = [(ours, 7), (ours, 9), (ours, 6), ("weights:other", 9)]
    write_structures(
        tmp_path / "references.extxyz",
        [diamond(potential=potential, quench_steps=steps) for potential, steps in kept],
    )
    references = References(FakeWorkshop(options), QuenchSettings(quench_steps=7))
    assert len(references.find(Wanted(8, 3.52, 5))) == 2
    assert len(references.find(Wanted(8, 3.52, 1))) == 1
    assert references.find(Wanted(64, 3.52, 1)) == []


def test_quenches_of_one_size_run_together():
    jobs = [(Wanted(64, 2.0, 9), k) for k in range(9)] + [(Wanted(216, 2.0, 2), k) for k in range(2)]
    assert [len(batch) for batch in _batches(jobs)] == [4, 4, 1, 1, 1]


def test_pair_spread_is_the_mean_over_pairs():
    assert pair_spread(np.array([[0.0, 0.0], [1.0, 1.0], [3.0, 3.0]])) == pytest.approx(2.0)
    assert pair_spread(np.zeros((1, 2))) is None


def test_left_out_bands_are_read_beside_the_prior(tmp_path):
    prior = tmp_path / "models" / "prior"
    prior.mkdir(parents=True)
    (prior / "config.json").write_text("{}")
    assert left_out_bands(prior) is None
    record = {"settings": {"left_out_g_cm3": [[2.15, 2.35]]}}
    (tmp_path / "pretraining.json").write_text(json.dumps(record))
    assert left_out_bands(prior) == ((2.15, 2.35),)


def test_training_networks_are_looked_for_near_the_prior(tmp_path):
    prior = tmp_path / "prior"
    prior.mkdir()
    assert training_file(prior) is None
    (tmp_path / "networks.npz").touch()
    assert training_file(prior) == tmp_path / "networks.npz"


def test_a_disguise_is_one():
    atoms = diamond() * (2, 2, 2)
    atoms.rattle(0.2, seed=0)
    hidden = disguised(atoms, np.random.default_rng(0), noise_a=0.05)
    assert np.abs(hidden.positions - atoms.positions).max() > 0.5
    assert match(hidden, atoms).rms_a < 0.15


def test_stages_add_up_to_one():
    told = []
    stages = Stages(lambda share, what: told.append((share, what)), {"a": 1, "b": 3})
    stages.begin("a")
    stages.at(0.5, "half")
    stages.begin("b")
    stages.at(1.0)
    assert told == [(0.0, "a"), (0.125, "a: half"), (0.25, "b"), (1.0, "b")]


def test_every_purpose_has_seeds_of_its_own(tmp_path):
    workshop = FakeWorkshop(BenchOptions(tmp_path, seed=3))
    names = ["reference-64-2.5-0", "reference-64-2.5-1", "raw-64-2", "raw-64-2.5"]
    seeds = [tuple(Workshop.seeds(workshop, name, 3)) for name in names]
    assert len({seed for row in seeds for seed in row}) == 12
    assert tuple(Workshop.seeds(workshop, names[0], 2)) == seeds[0][:2]
