"""The learnt Hamiltonian: symmetries, limits, gradients, and that it finds the rule behind its own spectra."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from tests.services.surrogate.synthetic import GRID, network, target

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch
from nearedge_services.surrogate.settings import SurrogateSettings
from nearedge_services.surrogate.surrogate import Surrogate
from nearedge_services.surrogate.tight_binding import LARGEST, TightBinding, check_valence
from nearedge_services.surrogate.training import train_surrogate

CHANNELS = 4
ENERGIES = torch.tensor(GRID.energies)


def model(elements: tuple[str, ...] = ("C",), seed: int = 0, change: float = 0.1) -> TightBinding:
    """A Hamiltonian away from its first guess, in double precision."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hamiltonian = TightBinding(elements, CHANNELS).double()
        with torch.no_grad():
            for value in hamiltonian.parameters():
                value.mul_(1 + change * torch.randn_like(value))
    return hamiltonian


def spectra(hamiltonian: TightBinding, structures: list[Atoms], elements: tuple[str, ...] = ("C",)):
    batch = Batch.from_atoms(structures, elements, dtype=torch.float64)
    surroundings = torch.zeros(len(batch.positions), CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        return hamiltonian(batch, hamiltonian.pairs(batch), surroundings, ENERGIES).numpy()


def test_rotation_permutation_and_images_change_nothing():
    hamiltonian, atoms = model(), network(5)
    expected = spectra(hamiltonian, [atoms])
    order = np.random.default_rng(0).permutation(len(atoms))
    turned = atoms[order]
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned.positions += [5.0, -3.0, 0.4]
    turned.wrap()
    assert np.allclose(spectra(hamiltonian, [turned]), expected[order], atol=1e-8)


def test_structures_of_a_batch_do_not_see_each_other():
    hamiltonian = model()
    structures = [network(seed) for seed in (3, 5, 6, 7)]
    assert len({len(atoms) for atoms in structures}) > 1
    together = spectra(hamiltonian, structures)
    assert np.allclose(together, np.concatenate([spectra(hamiltonian, [a]) for a in structures]), atol=1e-9)


def test_cell_mean_has_mean_one_for_each_element():
    atoms = network(5)
    atoms.symbols[::2] = "Si"
    atoms.set_cell(atoms.cell * 1.2, scale_atoms=True)
    values = spectra(model(("C", "Si")), [atoms], ("C", "Si"))
    for symbol in ("C", "Si"):
        mean = values[np.array(atoms.get_chemical_symbols()) == symbol].mean(0)
        assert mean @ GRID.weights / GRID.weights.sum() == pytest.approx(1)


def test_far_apart_atoms_have_one_line():
    """Without neighbours there is one p level, next to the chemical potential."""
    atoms = Atoms("C", cell=[9, 9, 9], pbc=True)
    line = spectra(model(change=0.0), [atoms])[0]
    # two electrons in three p functions: the level lies above the chemical potential by kT ln 2
    shift = 0.15 * np.log(2)
    expected = np.exp(-0.5 * ((GRID.energies - shift) / 0.6) ** 2)
    assert np.allclose(line / line.max(), expected / expected.max(), atol=1e-6)


def value_and_gradient(hamiltonian: TightBinding, batch: Batch, weights: torch.Tensor):
    """A weighted sum over the spectra, and its gradient in the positions."""
    positions = batch.positions.clone().requires_grad_()
    moved = batch.with_positions(positions)
    surroundings = torch.zeros(len(positions), CHANNELS, dtype=positions.dtype)
    values = hamiltonian(moved, hamiltonian.pairs(moved), surroundings, ENERGIES.to(positions.dtype))
    total = (values * weights).sum()
    return float(total.detach()), torch.autograd.grad(total, positions)[0]


def test_gradient_is_the_finite_difference():
    hamiltonian, generator = model(), torch.Generator().manual_seed(1)
    batch = Batch.from_atoms([network(5), network(6)], ("C",), dtype=torch.float64)
    weights = torch.randn(len(batch.positions), GRID.size, dtype=torch.float64, generator=generator)
    direction = torch.randn(batch.positions.shape, dtype=torch.float64, generator=generator)
    _, gradient = value_and_gradient(hamiltonian, batch, weights)
    up, down = (
        value_and_gradient(hamiltonian, batch.with_positions(batch.positions + step * direction), weights)[0]
        for step in (1e-5, -1e-5)
    )
    assert float((gradient * direction).sum()) == pytest.approx((up - down) / 2e-5, rel=2e-3)


def test_gradient_of_a_perfect_crystal_is_finite():
    """Symmetry makes many orbitals degenerate, and forbids any force on this sum."""
    batch = Batch.from_atoms([bulk("C", "diamond", a=3.57, cubic=True)], ("C",))
    _, gradient = value_and_gradient(model().float(), batch, torch.ones(8, GRID.size))
    assert float(gradient.abs().max()) < 1e-2


def test_atoms_on_top_of_each_other_stay_finite():
    atoms = network(5)
    atoms.positions[1] = atoms.positions[0] + 0.05
    hamiltonian = model().float()
    batch = Batch.from_atoms([atoms], ("C",))
    positions = batch.positions.requires_grad_()
    batch = batch.with_positions(positions)
    values = hamiltonian(batch, hamiltonian.pairs(batch), torch.zeros(len(atoms), CHANNELS), ENERGIES.float())
    (gradient,) = torch.autograd.grad(values.square().sum(), positions)
    assert bool(values.isfinite().all())
    assert bool(gradient.isfinite().all())


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UserError, match="tight_binding: false"):
        check_valence(("C", "Fe"))
    many = Atoms(f"C{LARGEST + 1}", positions=np.zeros((LARGEST + 1, 3)), cell=[50, 50, 50], pbc=True)
    with pytest.raises(UserError, match="too large"):
        model().pairs(Batch.from_atoms([many], ("C",)))


@pytest.fixture(scope="module")
def learnt():
    """(surrogate, metrics) of spectra that another Hamiltonian made."""
    torch.set_num_threads(1)
    truth = model(seed=3, change=0.06)

    def labelled(seed):
        atoms = network(seed)
        atoms.arrays["xanes"] = spectra(truth, [atoms])
        atoms.info |= {"xanes_energies": GRID.energies.copy(), "group": f"network-{seed}"}
        return atoms

    settings = SurrogateSettings(
        members=2, channels=8, vectors=3, radial=6, cutoff_a=2.6, components=6, steps=50, batch_atoms=28,
        learning_rate=1e-2, ema=0.9,
    )  # fmt: skip
    structures = [labelled(seed) for seed in range(20)]
    return train_surrogate(structures[:14], structures[14:], settings, seed=0)


def test_finds_the_hamiltonian_behind_spectra(learnt):
    _, metrics = learnt
    assert metrics["per_atom_mse"] < 0.25 * metrics["per_atom_mse_baseline"]
    assert metrics["cell_mean_rmse"] < 0.5 * metrics["cell_mean_rmse_baseline"]


def test_save_and_load(learnt, tmp_path):
    surrogate, aim, atoms = learnt[0], target(), network(60)
    surrogate.save(tmp_path)
    again = Surrogate.load(tmp_path)
    assert again.predict([atoms], aim)[0].distance == surrogate.predict([atoms], aim)[0].distance
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["settings"]["tight_binding"] is True


def test_a_config_without_tight_binding_is_one_of_components_alone(trained, tmp_path):
    """As written before there was a Hamiltonian or a noise-aware network."""
    settings = trained[0].settings.model_copy(update={"noise_aware_steps": 0})
    surrogate = Surrogate(
        trained[0].network, settings, ("C",), ("C",), trained[0].grid, trained[0].calibration
    )
    noisy, surrogate.network.noisy = surrogate.network.noisy, None
    try:
        surrogate.save(tmp_path)
        expected = surrogate.predict([network(5)], target())[0].distance
    finally:
        surrogate.network.noisy = noisy
    config = json.loads((tmp_path / "config.json").read_text())
    for name in [n for n in config["settings"] if n == "tight_binding" or n.startswith("noise_aware")]:
        del config["settings"][name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Surrogate.load(tmp_path).predict([network(5)], target())[0].distance == expected
