"""Everything that is wrong is said in one line, with exit status 2, before Ray starts."""

import sqlite3

import numpy as np
import pytest
import ray
from ase import Atoms
from ase.build import bulk
from tests.platform.campaign_files import ENERGIES_EV, intensity, write_config, write_target
from tests.programs import needs

from nearedge.config import TargetConfig, load_config
from nearedge.preflight import alignment_window, check
from nearedge_db.database import Database, url_of_run
from nearedge_db.errors import UserError
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.structures.extxyz import write_structures


def diamonds(count: int, symbol: str = "C") -> list[Atoms]:
    """Small periodic cells, no two alike."""
    cells = []
    for index in range(count):
        atoms = bulk("C", "diamond", 3.57, cubic=True)
        atoms.rattle(0.05, seed=index)
        atoms.symbols[0] = symbol
        cells.append(atoms)
    return cells


def test_a_campaign_without_faults_passes(tmp_path):
    checked = check(load_config(write_config(tmp_path, material={"composition": "C8"})))
    assert checked.absorber == "C"
    assert checked.starting == []
    assert checked.target is not None
    np.testing.assert_allclose(checked.target.weights @ checked.target.intensity, 1.0)
    assert not ray.is_initialized()


def test_missing_settings_file(refused, tmp_path):
    assert "none.yaml" in refused(tmp_path / "none.yaml")


def test_missing_target(refused, tmp_path):
    assert "none.csv" in refused(write_config(tmp_path, target={"file": "none.csv"}))


def test_nan_in_the_target(refused, tmp_path):
    path = write_config(tmp_path)
    values = intensity()
    values[7] = np.nan
    write_target(tmp_path / "target.csv", values=values)
    line = refused(path)
    assert "nan" in line.lower() or "finite" in line


@pytest.mark.parametrize("how", ["descending", "duplicate"])
def test_energies_that_do_not_ascend(refused, tmp_path, how):
    path = write_config(tmp_path)
    energies = ENERGIES_EV[::-1] if how == "descending" else np.sort(np.append(ENERGIES_EV, 5.0))
    write_target(tmp_path / "target.csv", energies)
    assert "energ" in refused(path)


def test_too_few_points(refused, tmp_path):
    path = write_config(tmp_path)
    write_target(tmp_path / "target.csv", ENERGIES_EV[:3])
    assert "points" in refused(path)


def test_no_overlap_with_the_oracle(refused, tmp_path):
    path = write_config(tmp_path)
    write_target(tmp_path / "target.csv", ENERGIES_EV + 284.0, intensity())
    line = refused(path)
    assert "overlap" in line
    assert "target.align" in line


def test_alignment_allows_an_absolute_axis(tmp_path):
    path = write_config(tmp_path, target={"file": "target.csv", "align": True})
    write_target(tmp_path / "target.csv", ENERGIES_EV + 284.0, intensity())
    assert check(load_config(path)).target is None


@pytest.mark.parametrize("key", ["pre_edge_ev", "energy_range_ev"])
def test_a_key_of_the_alignment_without_alignment(refused, tmp_path, key):
    line = refused(write_config(tmp_path, target={"file": "target.csv", key: [0.0, 5.0]}))
    assert f"target.{key}" in line


def test_a_pre_edge_outside_the_spectrum(refused, tmp_path):
    target = {"file": "target.csv", "align": True, "pre_edge_ev": [270.0, 280.0]}
    assert "pre-edge" in refused(write_config(tmp_path, target=target))


def test_a_spectrum_too_short_to_align(refused, tmp_path):
    target = {"file": "target.csv", "align": True, "energy_range_ev": [2.0, 5.0]}
    assert "too short" in refused(write_config(tmp_path, target=target))


def test_a_pre_edge_that_the_used_range_cuts_away(refused, tmp_path):
    target = {"file": "target.csv", "align": True, "pre_edge_ev": [-2, 0], "energy_range_ev": [1.0, 28.0]}
    assert "pre-edge" in refused(write_config(tmp_path, target=target))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window_ev": [-3, 10]}, "outside the oracle"),
        ({"window_ev": [5, 29]}, "outside the oracle"),
        ({"window_ev": [2, 6.9]}, "too narrow"),
        ({"energy_range_ev": [0, 22.5]}, "too short"),  # the default window is 22 eV wide
        ({"window_ev": [-1, 9], "energy_range_ev": [0, 10.5]}, "too short"),
    ],
)
def test_an_alignment_that_cannot_work(refused, tmp_path, settings, words):
    line = refused(write_config(tmp_path, target={"file": "target.csv", "align": True, **settings}))
    assert words in line
    assert "target.window_ev" in line


def test_an_alignment_with_just_enough_room(tmp_path):
    target = {"file": "target.csv", "align": True, "window_ev": [-1, 9], "energy_range_ev": [0, 11]}
    assert check(load_config(write_config(tmp_path, target=target))).target is None


def test_the_default_window_of_an_alignment():
    target = TargetConfig(file="t.csv", align=True)
    assert alignment_window(target, EnergyGrid()) == (-2.0, 20.0)
    assert alignment_window(target, EnergyGrid(0.0, 12.0)) == (0.0, 12.0)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"material": {"composition": "C3"}}, "material.composition has too few"),
        ({"material": {"composition": "C4097"}}, "material.composition has too many"),
        ({"generation": {"composition": "C2"}}, "generation.composition has too few"),
        ({"generation": {"composition": "C99999999999"}}, "generation.composition has too many"),
    ],
)
def test_cells_of_no_useful_size(refused, tmp_path, sections, words):
    assert words in refused(write_config(tmp_path, **sections))


@pytest.mark.parametrize("composition", ["Og8", "Xx8", "c8", "", "C0"])
def test_an_element_or_formula_that_nobody_can_calculate(refused, tmp_path, composition):
    refused(write_config(tmp_path, material={"composition": composition}))


def test_an_element_without_melt_quench(refused, tmp_path):
    line = refused(write_config(tmp_path, material={"composition": "Ge8"}))
    assert "Ge" in line
    assert "seeds.file" in line


def test_an_absorber_that_is_not_there(refused, tmp_path):
    line = refused(write_config(tmp_path, target={"file": "target.csv", "absorber": "Si"}))
    assert "Si" in line


def test_other_elements_in_generated_cells(refused, tmp_path):
    assert "generation.composition" in refused(write_config(tmp_path, generation={"composition": "Si8"}))


def test_a_run_directory_that_cannot_be_written(refused, tmp_path):
    path = write_config(tmp_path)
    line = refused(path, "--dir", str(path / "below" / "a file"))
    assert "cannot write" in line
    assert "Not a directory" in line


def test_a_run_directory_named_like_a_number_is_a_name(tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "mlflow.db").write_text("no database " * 100)
    assert "2024/mlflow.db" in refused(write_config(tmp_path), "--dir", "2024")


def test_bad_input_leaves_no_run_directory_behind(refused, tmp_path):
    refused(write_config(tmp_path, target={"file": "none.csv"}))
    assert not (tmp_path / "run").exists()


def test_a_database_of_a_newer_version(refused, tmp_path):
    path = write_config(tmp_path)
    (tmp_path / "run").mkdir()
    Database.open(url_of_run(tmp_path / "run")).dispose()
    with sqlite3.connect(tmp_path / "run" / "nearedge.db") as connection:
        connection.execute("UPDATE nearedge_alembic_version SET version_num = '9999'")
    assert "newer NearEdge" in refused(path)


def test_a_file_that_is_no_database(refused, tmp_path):
    path = write_config(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "nearedge.db").write_text("this is a text of some length, and no database\n" * 50)
    assert "database" in refused(path)


def test_a_strange_element_in_the_starting_structures(refused, tmp_path):
    write_structures(tmp_path / "own.extxyz", diamonds(6, "Si"))
    line = refused(write_config(tmp_path, seeds={"file": "own.extxyz"}))
    assert "Si" in line


def test_too_few_starting_structures(refused, tmp_path):
    write_structures(tmp_path / "own.extxyz", diamonds(3))
    assert "too few" in refused(write_config(tmp_path, seeds={"file": "own.extxyz"}))


def test_starting_structures_without_a_cell(refused, tmp_path):
    cells = diamonds(5)
    cells[2].pbc = [True, True, False]
    write_structures(tmp_path / "own.extxyz", cells)
    assert "structure 2" in refused(write_config(tmp_path, seeds={"file": "own.extxyz"}))


def test_copies_of_a_starting_structure_count_once(refused, tmp_path):
    write_structures(tmp_path / "own.extxyz", diamonds(3) * 3)
    line = refused(write_config(tmp_path, seeds={"file": "own.extxyz"}))
    assert "3 different ones of 9" in line


def spoil_volume(atoms: Atoms) -> None:
    atoms.cell[2] = atoms.cell[1]


def spoil_contact(atoms: Atoms) -> None:
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 0.6]


def spoil_absorber(atoms: Atoms) -> None:
    atoms.symbols[:] = "Si"
    atoms.set_cell(1.6 * atoms.cell.array, scale_atoms=True)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_volume, "no volume"),
        (spoil_contact, "contact of 0.60"),
        (spoil_absorber, "no atom of the absorbing element"),
    ],
)
def test_a_starting_structure_that_cannot_be_used(refused, tmp_path, spoil, words):
    cells = diamonds(6)
    spoil(cells[2])
    write_structures(tmp_path / "own.extxyz", cells)
    line = refused(write_config(tmp_path, material={"composition": "C8Si8"}, seeds={"file": "own.extxyz"}))
    assert words in line
    assert "structure 2" in line


def test_starting_structures_of_one_group_leave_none_to_hold_out(refused, tmp_path):
    cells = diamonds(5)
    for atoms in cells:
        atoms.info["group"] = "the same network"
    write_structures(tmp_path / "own.extxyz", cells)
    assert "group" in refused(write_config(tmp_path, seeds={"file": "own.extxyz"}))


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"models": {"prior": {"stepps": 3}}}, "models.prior.stepps"),
        ({"models": {"surrogate": {"member": 3}}}, "models.surrogate.member"),
        ({"models": {"potential": {"rmax": 3}}}, "models.potential.rmax"),
        ({"models": {"retrain": {"prior": {"stepps": 3}}}}, "models.retrain.prior.stepps"),
        ({"models": {"retrain": {"priors": {"steps": 3}}}}, "priors"),
        ({"seeds": {"settings": {"steps": 3}}}, "seeds.settings.steps"),
        ({"seeds": {"settings": {"melt_quench": {"speed": 3}}}}, "seeds.settings.melt_quench.speed"),
        ({"oracle": {"settings": {"sigma": 0.5}}}, "sigma"),
        ({"generation": {"sampler": {"churns": 1}}}, "generation.sampler.churns"),
        ({"models": {"prior": {"steps": 0}}}, "models.prior.steps"),
        ({"oracle": {"name": "vasp"}}, "vasp"),
        ({"acquisition": {"policy": "luck"}}, "luck"),
    ],
)
def test_settings_that_belong_to_other_parts_are_checked_too(refused, tmp_path, sections, key):
    assert key in refused(write_config(tmp_path, **sections))


def test_an_oracle_that_takes_more_than_its_actor_has(tmp_path):
    needs("feff10")
    oracle = {"name": "feff", "settings": {"run": {"workers": 2}}}
    path = write_config(tmp_path, oracle=oracle, pools={"labeler": {"cpus": 1}})
    with pytest.raises(UserError, match="workers"):
        check(load_config(path))
    check(load_config(write_config(tmp_path, oracle=oracle, pools={"labeler": {"cpus": 2}})))


def test_a_campaign_needs_every_absorber(tmp_path):
    needs("feff10")
    path = write_config(tmp_path, oracle={"name": "feff", "settings": {"absorbers": [0]}})
    with pytest.raises(UserError, match="all C atoms"):
        check(load_config(path))


def test_a_program_of_the_oracle_that_is_not_there(tmp_path):
    path = write_config(tmp_path, oracle={"name": "espresso", "settings": {"run": {"pw": ["no-such-pw"]}}})
    with pytest.raises(UserError, match="no-such-pw"):
        check(load_config(path))


def test_a_second_oracle_must_be_another_one(refused, tmp_path):
    words = refused(write_config(tmp_path, confirm="xtb"))
    assert "confirm is the same oracle with the same settings" in words


def test_the_settings_of_a_second_oracle_are_checked(refused, tmp_path):
    assert "sigma" in refused(write_config(tmp_path, confirm={"name": "xtb", "settings": {"sigma": 0.5}}))


def test_workers_of_a_second_oracle_are_checked(refused, tmp_path):
    needs("feff10")
    path = write_config(tmp_path, confirm={"name": "feff", "settings": {"run": {"workers": 9}}})
    assert "confirm.settings.run.workers" in refused(path)


def test_screen_and_confirm_name_two_oracles(tmp_path):
    dear = {"name": "xtb", "settings": {"core_hole": "z+1"}}
    checked = check(load_config(write_config(tmp_path, screen="xtb", confirm=dear)))
    assert checked.confirming is not None
    assert checked.confirming.settings_hash != checked.oracle.settings_hash
    assert checked.config.oracle.name == "xtb"
