"""Members of a potential: trained apart, kept by name of their settings, and joined."""

import numpy as np
import pytest
from ase import Atoms

from nearedge_services.potential.potential import Potential
from nearedge_services.pretraining import pipeline
from nearedge_services.pretraining.frames import REFINED
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.pretraining.trainings import trainings
from nearedge_services.structures.extxyz import write_structures

POTENTIAL = {"members": 2, "steps": 3, "channels": 4, "max_ell": 1, "correlation": 1}


def settings(**potential):
    """Of a potential made anew, whose frames are there."""
    models = {"potential": {**POTENTIAL, **potential}}
    return PretrainingSettings(renews="potential", rounds=0, models=models)


def frames(groups):
    """Labelled frames of random atoms."""
    rng = np.random.default_rng(0)
    made = []
    for group in groups:
        atoms = Atoms("C4", positions=rng.uniform(0, 5, (4, 3)), cell=[5.0] * 3, pbc=True)
        atoms.info.update(REF_energy=float(rng.normal(-200, 1)), group=group, density_g_cm3=2.0)
        atoms.arrays["REF_forces"] = rng.normal(size=(4, 3))
        made.append(atoms)
    return made


def train(folder, chosen, workers=2):
    """The pipeline's step."""
    pipeline._train(("potential",), folder, chosen, workers, lambda *_: None)
    return Potential.load(folder / "models" / "potential")


def numbers(potential, member):
    """The weights of a member."""
    return np.concatenate(
        [value.numpy().ravel() for value in potential.members[member].state_dict().values()]
    )


@pytest.fixture
def folder(tmp_path):
    """Frames of a few refined structures, too few for any to be held out."""
    (tmp_path / "frames").mkdir()
    write_structures(tmp_path / "frames" / f"{REFINED}-000.extxyz", frames("abc"))
    return tmp_path


def test_members_are_joined_in_order_and_not_trained_again(folder):
    chosen = settings()
    joined = train(folder, chosen)
    alone = [Potential.load(one.folder(folder)) for one in trainings("potential", chosen)]
    for k, one in enumerate(alone):
        np.testing.assert_array_equal(numbers(joined, k), numbers(one, 0))
    assert not np.array_equal(numbers(joined, 0), numbers(joined, 1))
    first, second = (one.folder(folder) / "weights.safetensors" for one in trainings("potential", chosen))
    made = first.stat().st_mtime_ns
    for path in (folder / "models" / "potential" / "config.json", second.with_name("config.json")):
        path.unlink()
    again = train(folder, chosen, workers=1)
    np.testing.assert_array_equal(numbers(again, 1), numbers(joined, 1))
    assert first.stat().st_mtime_ns == made


def test_members_of_other_settings_are_not_taken(folder):
    before = train(folder, settings())
    (folder / "models" / "potential" / "config.json").unlink()
    now = train(folder, settings(channels=5))
    assert (before.architecture.channels, now.architecture.channels) == (4, 5)
