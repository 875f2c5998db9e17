"""What every oracle must satisfy: subclass `OracleContract` and give it fixtures."""

import json
import pickle
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.oracles.base import KeepsLabel, Label, Oracle
from nearedge_services.oracles.errors import BadGeometry, NotConverged, OracleError
from nearedge_services.oracles.external import SCRATCH_VARIABLE
from nearedge_services.oracles.factory import ORACLES, make_oracle
from nearedge_services.spectra.labelled import label_cell_means
from nearedge_services.structures.bond_order import bond_order_potential
from nearedge_services.structures.extxyz import labelled


class OracleContract:
    """Override `oracle`, `other_oracle` (same kind, one setting changed), `hopeless_oracle` (same kind, so few
    iterations that it cannot converge; None where nothing is iterated) and `structure` (a small, distorted cell of C
    or Si).
    """

    energy_tolerance_ev: ClassVar[float] = 1e-4
    force_tolerance: ClassVar[float] = 0.01
    spectrum_tolerance: ClassVar[float] = 1e-4
    areas: ClassVar[tuple[float, float]] = (1 - 1e-6, 1 + 1e-6)
    """Smallest and largest area of the spectrum of an atom: one, unless it keeps the weight of its states."""

    @pytest.fixture(scope="class")
    def oracle(self) -> Oracle:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def other_oracle(self) -> Oracle:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def hopeless_oracle(self) -> Oracle | None:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def structure(self) -> Atoms:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def label(self, oracle: Oracle, structure: Atoms) -> Label:
        return oracle.label(structure)

    def test_shapes_and_values(self, oracle, structure, label):
        assert label.forces_ev_per_a.shape == (len(structure), 3)
        assert label.xanes.shape == (len(structure), oracle.grid.size)
        np.testing.assert_array_equal(label.energies_ev, oracle.grid.energies)
        assert np.isfinite(label.energy_ev)
        assert label.seconds > 0

    def test_spectra_are_not_negative_and_normalised(self, oracle, label):
        assert (label.xanes >= 0).all()
        areas = label.xanes @ oracle.grid.weights
        assert self.areas[0] <= areas.min() <= areas.max() <= self.areas[1]

    def test_the_cell_mean_is_the_mean_of_the_atoms(self, structure, label):
        symbol = str(structure.symbols[0])
        grid, means = label_cell_means([label.attach(structure)], symbol)
        mean = label.xanes[structure.symbols == symbol].mean(axis=0)
        np.testing.assert_allclose(means[0], mean / (grid.weights @ mean), atol=1e-12)

    def test_units_are_those_of_a_classical_potential_in_ev_and_a(self, structure, label):
        """Rydberg and bohr, or Hartree, would be off by a factor of 26 or more; the energy follows by its gradient."""
        atoms = structure.copy()
        atoms.calc = bond_order_potential()
        sizes = [np.linalg.norm(forces) for forces in (label.forces_ev_per_a, atoms.get_forces())]
        assert 0.3 < sizes[0] / sizes[1] < 3

    def test_attach_makes_a_labelled_copy(self, structure, label):
        attached = label.attach(structure)
        assert labelled(attached)
        assert "REF_energy" not in structure.info
        assert attached.info["REF_energy"] == label.energy_ev
        assert attached.info["oracle_details"] == json.dumps(label.details)
        assert "oracle_details" not in replace(label, details={}).attach(attached).info  # of another label

    def test_attach_refuses_another_structure(self, structure, label):
        with pytest.raises(ValueError, match="atoms"):
            label.attach(structure[:-1])

    def test_same_structure_same_label_and_nothing_is_printed(self, oracle, structure, label, capfd):
        again = oracle.label(structure)
        assert capfd.readouterr().out == ""
        assert again.energy_ev == pytest.approx(label.energy_ev, abs=1e-8)
        np.testing.assert_allclose(again.xanes, label.xanes, atol=1e-8)

    def test_forces_are_the_energy_gradient(self, oracle, structure, label):
        step, (atom, axis) = 0.005, (1, 2)
        energies = []
        for sign in (1, -1):
            moved = structure.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(oracle.label(moved).energy_ev)
        numerical = -(energies[0] - energies[1]) / (2 * step)
        assert label.forces_ev_per_a[atom, axis] == pytest.approx(numerical, abs=self.force_tolerance)
        assert np.abs(label.forces_ev_per_a.sum(axis=0)).max() < len(structure) * self.force_tolerance

    def test_translation_and_wrapping(self, oracle, structure, label):
        moved = structure.copy()
        moved.positions += [0.37, -0.21, 7.9]
        moved.wrap()
        self._assert_same(oracle.label(moved), label)

    def test_rotation_of_atoms_and_cell(self, oracle, structure, label):
        turned = structure.copy()
        turned.rotate(33, (1, 2, 3), rotate_cell=True)
        turned_label = oracle.label(turned)
        turn = np.linalg.solve(structure.cell.array, turned.cell.array)
        self._assert_same(turned_label, label, forces=label.forces_ev_per_a @ turn)

    def test_permutation_permutes_the_rows(self, oracle, structure, label):
        order = np.random.default_rng(0).permutation(len(structure))
        permuted = oracle.label(structure[order])
        assert permuted.energy_ev == pytest.approx(label.energy_ev, abs=self.energy_tolerance_ev)
        np.testing.assert_allclose(
            permuted.forces_ev_per_a, label.forces_ev_per_a[order], atol=self.force_tolerance
        )
        np.testing.assert_allclose(permuted.xanes, label.xanes[order], atol=self.spectrum_tolerance)

    def test_calculator_agrees_with_the_label(self, oracle, structure, label):
        atoms = structure.copy()
        atoms.calc = oracle.calculator()
        assert atoms.get_potential_energy() == pytest.approx(label.energy_ev, abs=self.energy_tolerance_ev)
        np.testing.assert_allclose(atoms.get_forces(), label.forces_ev_per_a, atol=self.force_tolerance)
        if isinstance(atoms.calc, KeepsLabel):
            np.testing.assert_allclose(
                atoms.calc.last_label().xanes, label.xanes, atol=self.spectrum_tolerance
            )

    def test_overlap_and_nan_are_bad_geometry(self, oracle, structure):
        overlapping, broken = structure.copy(), structure.copy()
        overlapping.positions[1] = overlapping.positions[0] + [0.1, 0, 0]
        broken.positions[0, 0] = np.nan
        for atoms in (overlapping, broken):
            with pytest.raises(BadGeometry) as caught:
                oracle.label(atoms)
            assert not caught.value.retryable
            assert "\n" not in caught.value.reason

    def test_overlap_through_the_boundary_is_seen(self, oracle, structure):
        atoms = structure.copy()
        atoms.positions[1] = atoms.positions[0] + atoms.cell.array[0] + [0.1, 0, 0]
        with pytest.raises(BadGeometry, match="overlap"):
            oracle.label(atoms)

    def test_open_boundaries_are_refused(self, oracle, structure):
        molecule = structure.copy()
        molecule.pbc = [True, True, False]
        with pytest.raises(BadGeometry, match="periodic"):
            oracle.label(molecule)

    def test_unknown_element_is_a_user_error(self, oracle, structure):
        exotic = structure.copy()
        exotic.numbers[0] = 110
        with pytest.raises(UserError, match="Ds"):
            oracle.check_elements(exotic.numbers)
        with pytest.raises(UserError):
            oracle.label(exotic)

    def test_settings_hash_tells_settings_apart(self, oracle, other_oracle):
        assert oracle.settings_hash == make_oracle(oracle.name, oracle.settings.model_dump()).settings_hash
        assert oracle.settings_hash != other_oracle.settings_hash

    def test_every_setting_changes_the_hash_but_how_it_is_run(self, oracle):
        for name, value in oracle.settings.model_dump().items():
            if name != "run":
                changed = oracle.settings.model_copy(update={name: another(value)})
                assert type(oracle)(changed).settings_hash != oracle.settings_hash, name

    def test_crosses_process_borders(self, oracle, label):
        assert pickle.loads(pickle.dumps(oracle)).settings_hash == oracle.settings_hash  # noqa: S301 - own bytes
        assert pickle.loads(pickle.dumps(label)).energy_ev == label.energy_ev  # noqa: S301

    def test_what_does_not_converge_says_so_in_a_line_and_may_be_tried_again(
        self, hopeless_oracle, structure, tmp_path, monkeypatch
    ):
        if hopeless_oracle is None:
            pytest.skip("nothing is iterated")
        monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path))
        with pytest.raises(NotConverged) as caught:
            hopeless_oracle.label(structure)
        assert caught.value.retryable
        assert_pickles(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_is_registered_and_refuses_unknown_settings(self, oracle):
        assert oracle.name in ORACLES
        with pytest.raises(UserError, match="nonsense"):
            make_oracle(oracle.name, {"nonsense": 1})

    def _assert_same(self, label: Label, expected: Label, forces=None):
        assert label.energy_ev == pytest.approx(expected.energy_ev, abs=self.energy_tolerance_ev)
        wanted = expected.forces_ev_per_a if forces is None else forces
        np.testing.assert_allclose(label.forces_ev_per_a, wanted, atol=self.force_tolerance)
        np.testing.assert_allclose(label.xanes, expected.xanes, atol=self.spectrum_tolerance)


def another(value):
    """A value of the same kind that is not this one; nothing validates it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}-else"
    if isinstance(value, dict):
        return {**value, "Si": "Si.UPF"}
    return (*(value or ()), 1)


def assert_pickles(error: OracleError) -> None:
    """An error keeps its type and its reason across a process border."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - own bytes
    assert type(copy) is type(error)
    assert copy.reason == error.reason
