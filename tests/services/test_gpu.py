"""Sampling, scoring and training leave no tensor on the wrong device, on a GPU that is made up.

What MACE does on a GPU is not looked at: its networks are compiled, and the made-up GPU does not reach into that.
"""

import numpy as np
import pytest
import torch
from ase.build import bulk
from tests.platform.tiny_models import GRID, PRIOR, SURROGATE, bump, write_models
from tests.services.made_up_gpu import There, made_up_gpu

from nearedge_services.diffusion.guidance import ClassifierFreeGuidance, CombinedGuidance, NoiseAwareGuidance
from nearedge_services.diffusion.guidance import SpectrumGuidance as Pull
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import SamplerSettings, empty_cells, sample
from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.diffusion.training import train_prior
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.structures.composition import parse_composition
from nearedge_services.surrogate.bias import SpectralBias
from nearedge_services.surrogate.surrogate import Surrogate
from nearedge_services.surrogate.training import train_surrogate

TARGET = Target.from_spectrum(Spectrum(GRID.energies, bump(8.0)), GRID, "C", (-2.0, 20.0))


def scored(folder, device):
    """Guided samples and what the surrogate says of them."""
    prior = Prior.load(folder / "prior").to(device)
    surrogate = Surrogate.load(folder / "surrogate").to(device)
    guidance = CombinedGuidance(
        [
            ClassifierFreeGuidance(TARGET, 1.0),
            NoiseAwareGuidance(surrogate, TARGET, 5.0),
            Pull(surrogate, TARGET, 5.0),
        ]
    )
    cells = empty_cells(parse_composition("C8"), [2.6, 3.0])
    structures = sample(prior, cells, SamplerSettings(steps=4), [0, 1], guidance)
    forces = [force for _, force in SpectralBias(surrogate, TARGET, 0.1).evaluate(structures)]
    return structures, surrogate.predict(structures, TARGET), forces


def labelled(count, first=0):
    frames = []
    for index in range(first, first + count):
        atoms = bulk("C", "diamond", 3.5 + 0.02 * (index % 8), cubic=True)
        atoms.rattle(0.08, seed=index)
        atoms.info |= {"xanes_energies": GRID.energies, "group": f"g{index}"}
        atoms.arrays["xanes"] = np.stack([bump(5 + 0.3 * index + 0.1 * k) for k in range(8)])
        frames.append(atoms)
    return frames


def test_tensors_of_two_devices_do_not_meet():
    with made_up_gpu():
        here, there = torch.ones(2), torch.ones(2, device="cuda")
        assert (here.device.type, there.device.type) == ("cpu", "cuda")
        with pytest.raises(RuntimeError, match="meet others on the GPU"):
            here + there
        with pytest.raises(TypeError, match="no values for numpy"):
            there.numpy()
        assert isinstance(here.to(there) + there, There)
        assert (there + there).cpu().numpy().tolist() == [2.0, 2.0]


def test_samples_and_scores_are_those_of_the_cpu(tmp_path):
    write_models(tmp_path, conditional=True)
    structures, predictions, forces = scored(tmp_path, "cpu")
    with made_up_gpu():
        there = scored(tmp_path, "cuda")
    for one, other in zip(structures, there[0], strict=True):
        np.testing.assert_allclose(one.positions, other.positions)
    assert [p.distance for p in predictions] == pytest.approx([p.distance for p in there[1]])
    np.testing.assert_allclose(forces, there[2])


@pytest.mark.parametrize("what", ["prior", "prior told spectra", "surrogate", "surrogate of a Hamiltonian"])
def test_a_training_is_that_of_the_cpu(tmp_path, what):
    if what.startswith("prior"):
        train, given = train_prior, {**PRIOR, "steps": 3, "spectrum_components": 2 * ("told" in what)}
        settings = PriorSettings(**given)
    else:
        train = train_surrogate
        more = {"steps": 3, "refine_steps": 2, "tight_binding": "Hamiltonian" in what, "noise_aware_steps": 2}
        settings = SURROGATE.model_copy(update=more)
    data = labelled(5), labelled(3, first=20)
    _, expected = train(*data, settings, 0)
    with made_up_gpu():
        model, metrics = train(*data, settings, 0, device="cuda")
        assert model.device.type == "cuda"
        train(*data, settings, 0, initial=model, device="cuda")
        model.save(tmp_path)
    assert metrics == pytest.approx(expected)
