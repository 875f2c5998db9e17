"""What the benches keep, and under what names."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk

from nearedge.bench.judging import Arena
from nearedge.bench.kept import Kept
from nearedge.bench.workshop import Workshop, identity
from nearedge_services.networks.weights import CONFIG_FILE, WEIGHTS_FILE
from nearedge_services.oracles.errors import BadGeometry, OracleCrash
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.target import Target


@pytest.mark.parametrize(("error", "tries"), [(OracleCrash("killed"), 2), (BadGeometry("overlap"), 1)])
def test_only_a_failure_that_is_final_is_kept(tmp_path, error, tries):
    asked = []

    def label(atoms):
        asked.append(len(atoms))
        raise error

    workshop = Workshop.__new__(Workshop)  # without models
    workshop.kept, workshop.names = Kept(tmp_path), {"oracle": "broken"}
    workshop.oracle = SimpleNamespace(label=label)
    for _ in range(2):
        assert workshop.label([bulk("C", "diamond", 3.567)]) == []
    assert len(asked) == tries


def test_a_model_is_named_by_its_config_too(tmp_path):
    names = set()
    for weights, config in ((b"a", "{}"), (b"a", '{"cutoff_a": 5}'), (b"b", "{}")):
        (tmp_path / WEIGHTS_FILE).write_bytes(weights)
        (tmp_path / CONFIG_FILE).write_text(config)
        names.add(identity(tmp_path))
    assert len(names) == 3


def test_an_aim_is_named_by_its_energies_too():
    grid = EnergyGrid(-2, 10, 0.25)
    intensity, mask = np.ones(grid.size), np.ones(grid.size, dtype=bool)
    target = Target(grid, intensity, mask, "C", (-2.0, 10.0))
    arena = SimpleNamespace(name="surrogate")
    names = {
        Arena.aim(arena, one)
        for one in (
            target,
            replace(target, grid=EnergyGrid(-1, 11, 0.25), window_ev=(-1.0, 11.0)),
            replace(target, intensity=2 * intensity),
        )
    }
    assert len(names) == 3
