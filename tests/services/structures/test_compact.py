import numpy as np
import pytest
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.structures.compact import read_networks, write_networks


def test_what_is_written_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    networks = [
        Atoms("C8", positions=rng.random((8, 3)) * 9 - 2, cell=np.diag([5.0, 6.0, 12.0]), pbc=True),
        Atoms("Si2C2", positions=rng.random((4, 3)) * 4, cell=np.eye(3) * 4 + 0.1, pbc=True),
    ]
    write_networks(tmp_path / "n.npz", networks)
    back = read_networks(tmp_path / "n.npz")
    assert [atoms.get_chemical_formula() for atoms in back] == ["C8", "C2Si2"]
    for before, after in zip(networks, back, strict=True):
        assert np.array_equal(before.numbers, after.numbers)
        assert np.allclose(before.cell.array, after.cell.array)
        difference = before.get_scaled_positions(wrap=False) - after.get_scaled_positions()
        assert np.abs((difference - np.round(difference)) @ before.cell.array).max() < 2e-4


def test_what_holds_no_networks_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_networks(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UserError, match="not readable"):
        read_networks(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="holds no networks"):
        read_networks(tmp_path / "other.npz")
