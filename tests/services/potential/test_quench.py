"""Networks quenched with a learned potential."""

import numpy as np
import pytest

from nearedge_services.potential import PotentialSettings, train_potential
from nearedge_services.potential.quench import QuenchSettings, quench
from nearedge_services.structures.bond_order import bond_order_potential
from nearedge_services.structures.composition import density_g_cm3, parse_composition
from nearedge_services.structures.melt_quench import MeltQuenchSettings, hot_frames

CELL = parse_composition("C12")
MELT = MeltQuenchSettings(melt_steps=20, quench_steps=60, relax_steps=5)
SHORT = QuenchSettings(
    melt=MELT, temperature_k=3000, hold_steps=5, quench_steps=25, relax_steps=5, snapshots=2
)


@pytest.fixture(scope="module")
def potential():
    """A small potential that knows hot carbon from the classical one."""
    frames = []
    for seed, density in enumerate((1.8, 2.4, 3.0)):
        for atoms in hot_frames(CELL, density, seed, 6, MELT):
            atoms.calc = bond_order_potential()
            atoms.info.update(REF_energy=atoms.get_potential_energy(), group=str(seed))
            atoms.arrays["REF_forces"] = atoms.get_forces()
            atoms.calc = None
            frames.append(atoms)
    settings = PotentialSettings(
        members=1, channels=8, radial_layers=(16,), max_ell=1, steps=60, bootstrap=False
    )
    return train_potential(frames, frames[:3], settings, seed=0)[0]


def test_networks_have_their_density_seed_and_snapshots(potential):
    """Two at once; frames on the way are not the end."""
    made = quench(potential, CELL, [2.0, 2.8], [5, 6], SHORT)
    for network, density, seed in zip(made, (2.0, 2.8), (5, 6), strict=True):
        assert network.final is not None, network.failure
        assert density_g_cm3(network.final) == pytest.approx(density)
        assert network.final.info["seed"] == seed
        assert len(network.snapshots) == 2
        assert network.final.calc is None
        assert not np.allclose(network.snapshots[-1].positions, network.final.positions)


def test_a_network_does_not_depend_on_its_company(potential):
    """The seed decides, up to the rounding of batches that chaos makes grow: compared after few steps."""
    brief = SHORT.model_copy(update={"hold_steps": 1, "quench_steps": 2, "relax_steps": 0, "snapshots": 0})
    alone = quench(potential, CELL, [2.0], [5], brief)[0].final
    beside = quench(potential, CELL, [2.8, 2.0], [6, 5], brief)[1].final
    assert alone is not None
    assert beside is not None
    np.testing.assert_allclose(alone.positions, beside.positions, atol=1e-3)


def test_an_explosion_is_told_and_its_frames_are_kept(potential):
    """A timestep that no dynamics stands."""
    wild = SHORT.model_copy(
        update={
            "thermostat": SHORT.thermostat.model_copy(update={"timestep_fs": 60.0}),
            "temperature_k": 300.0,
        }
    )
    network = quench(potential, CELL, [2.4], [1], wild)[0]
    assert network.final is None
    assert "after" in network.failure
