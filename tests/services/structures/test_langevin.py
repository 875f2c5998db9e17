"""Langevin dynamics: temperature, independence of the structures, explosions."""

import numpy as np
import pytest
from ase import Atoms, units

from nearedge_services.structures.langevin import Thermostat, langevin

STIFFNESS_EV_PER_A2 = 5.0


def harmonic(structures):
    """Every atom on its own spring at the origin."""
    return [
        (
            0.5 * STIFFNESS_EV_PER_A2 * float((atoms.positions**2).sum()),
            -STIFFNESS_EV_PER_A2 * atoms.positions,
        )
        for atoms in structures
    ]


def springs(count=40):
    """Atoms at rest on their springs."""
    return Atoms(f"C{count}", positions=np.zeros((count, 3)), cell=[9, 9, 9], pbc=True)


def test_equipartition():
    """Mean square displacement kT/k (the classical harmonic oscillator)."""
    atoms, squares = springs(), []
    temperatures = np.full(3000, 900.0)

    def keep(step, moving):
        if step >= 500:
            squares.append(float((moving[0].positions ** 2).mean()))

    assert (
        langevin(
            [atoms],
            harmonic,
            temperatures,
            [np.random.default_rng(0)],
            Thermostat(friction_per_fs=0.05),
            keep,
        )
        == {}
    )
    assert np.mean(squares) == pytest.approx(units.kB * 900.0 / STIFFNESS_EV_PER_A2, rel=0.05)


def test_a_structure_does_not_depend_on_its_company():
    """The same seed gives the same path alone and beside another."""
    temperatures = np.linspace(1000, 300, 20)
    alone, together, other = springs(5), springs(5), springs(7)
    langevin([alone], harmonic, temperatures, [np.random.default_rng(1)], Thermostat())
    generators = [np.random.default_rng(2), np.random.default_rng(1)]
    langevin([other, together], harmonic, temperatures, generators, Thermostat())
    np.testing.assert_allclose(together.positions, alone.positions, atol=1e-12)


def test_each_structure_has_a_bath_of_its_own():
    """A column of temperatures acts on its structure as it would if it were alone."""
    cold, hot, alone = springs(5), springs(5), springs(5)
    table = np.linspace([300.0, 1000.0], [100.0, 300.0], 20)
    langevin([cold, hot], harmonic, table, [np.random.default_rng(k) for k in (1, 2)], Thermostat())
    langevin([alone], harmonic, table[:, 1], [np.random.default_rng(2)], Thermostat())
    np.testing.assert_allclose(hot.positions, alone.positions, atol=1e-12)
    assert np.abs(cold.positions).mean() < np.abs(hot.positions).mean()


@pytest.mark.parametrize("broken", [np.nan, 1e6])
def test_one_that_explodes_stops_and_the_others_go_on(broken):
    """Forces that are not finite or absurd belong to one structure only."""
    calm, wild = springs(5), springs(5)

    def evaluate(structures):
        results = harmonic(structures)
        return [
            (energy, np.full_like(forces, broken) if atoms is wild else forces)
            for atoms, (energy, forces) in zip(structures, results, strict=True)
        ]

    steps = []
    exploded = langevin(
        [wild, calm],
        evaluate,
        np.full(60, 300.0),
        [np.random.default_rng(k) for k in range(2)],
        Thermostat(),
        lambda step, moving: steps.append(sorted(moving)),
    )
    assert list(exploded) == [0]
    assert steps[-1] == [1]
    assert len(steps) == 60
