"""Quantum ESPRESSO: the contract on a small cell, its files, what a site can get wrong, and the physics of carbon."""

import gzip
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from tests.programs import espresso, not_installed
from tests.services.oracles.contract import OracleContract

from nearedge_db.errors import UserError
from nearedge_services.oracles import espresso_files as files
from nearedge_services.oracles.errors import (
    BadGeometry,
    MissingData,
    NotConverged,
    OracleCrash,
    OutOfMemory,
    UnfitSettings,
)
from nearedge_services.oracles.espresso import EspressoOracle, EspressoSettings
from nearedge_services.oracles.espresso_run import EspressoRun, Programs
from nearedge_services.oracles.external import Ran
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.pseudopotentials import core_orbital, find_pseudopotential

CHEAP = {"cutoff_ry": 25, "k_spacing_per_a": 2.0, "image_distance_a": 0, "smearing_ev": 0.3}


def rattled_diamond() -> Atoms:
    atoms = bulk("C", "diamond", 3.567)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.slow
class TestEspresso(OracleContract):
    energy_tolerance_ev = 5e-3  # the real-space grid of exchange and correlation does not move with the atoms
    force_tolerance = 0.03
    spectrum_tolerance = 2e-3

    @pytest.fixture(scope="class")
    def oracle(self):
        return espresso(CHEAP)

    @pytest.fixture(scope="class")
    def other_oracle(self):
        return espresso({**CHEAP, "sigma_ev": 0.6})

    @pytest.fixture(scope="class")
    def hopeless_oracle(self):
        return make_oracle("espresso", {**CHEAP, "iterations": 1})

    @pytest.fixture(scope="class")
    def structure(self):
        return rattled_diamond()


@pytest.mark.slow
def test_stress_is_the_strain_derivative():
    oracle = espresso(
        {**CHEAP, "cutoff_ry": 60}
    )  # with fewer plane waves the basis of the other cell is another
    energies, step, compressed = [], 0.004, bulk("C", "diamond", 3.4)
    compressed.rattle(0.05, seed=1)
    for sign in (1, -1):
        strained = compressed.copy()
        strained.set_cell(compressed.cell.array @ np.diag([1 + sign * step, 1, 1]), scale_atoms=True)
        strained.calc = oracle.calculator()
        energies.append(strained.get_potential_energy())
    numerical = (energies[0] - energies[1]) / (2 * step * compressed.get_volume())
    compressed.calc = oracle.calculator()
    assert compressed.get_stress()[0] == pytest.approx(numerical, rel=0.05)  # -0.9 eV/Å³


@pytest.mark.slow
def test_under_mpi_a_label_is_the_same(monkeypatch):
    if shutil.which("mpirun") is None:
        not_installed("no mpirun: make dft")
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    settings, launcher = {**CHEAP, "absorbers": [0]}, ["mpirun", "--oversubscribe", "-np", "2"]
    alone = espresso(settings).label(rattled_diamond())
    together = espresso({**settings, "run": {"launcher": launcher}}).label(rattled_diamond())
    assert together.energy_ev == pytest.approx(alone.energy_ev, abs=1e-5)
    np.testing.assert_allclose(together.forces_ev_per_a, alone.forces_ev_per_a, atol=1e-3)
    np.testing.assert_allclose(together.xanes, alone.xanes, atol=1e-4)


def test_the_launcher_stands_before_each_program_with_its_options(tmp_path):
    launcher = tmp_path / "launcher"
    launcher.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/said\nexit 1\n')
    launcher.chmod(0o755)
    (tmp_path / "C.UPF").write_text("")
    run = {"launcher": [str(launcher), "-n", 4], "pw": ["pw.x", "-nk", "2"], "pseudo_dirs": [tmp_path]}
    programs = Programs(EspressoRun(**run))
    with programs.session("test") as session:
        with pytest.raises(OracleCrash):
            programs.pw(session, "", {"C": "C.UPF"})
        with pytest.raises(OracleCrash):
            programs.xspectra(session, "")
    said = (tmp_path / "said").read_text().splitlines()
    assert said == ["-n 4 pw.x -nk 2 -in pw.in", "-n 4 xspectra.x -in xspectra.in"]


def test_how_it_is_run_is_not_in_the_hash_and_all_else_is():
    plain = EspressoOracle().settings_hash
    site = {"launcher": ("srun",), "pw": ("/opt/pw.x", "-nk", "2"), "pseudo_dirs": ("/pseudo",), "workers": 4}
    assert EspressoOracle(EspressoSettings(run=site)).settings_hash == plain
    others = {"pseudopotentials": {"C": "other.UPF"}, "core_energy_ev": 392.553}
    for change in ({"core_hole": "none"}, {"absorbers": (0,)}, others):
        assert EspressoOracle(EspressoSettings(**change)).settings_hash != plain


def test_other_files_than_the_default_ones_need_their_own_core_energy():
    others = {"pseudopotentials": {"C": "mine.UPF"}, "core_hole_pseudopotentials": {"C": "hole.UPF"}}
    with pytest.raises(UserError, match=r"do not fit together; got no core_energy_ev.*hole\.UPF") as caught:
        make_oracle("espresso", others)
    assert "cutoff_ry" not in str(caught.value)
    settings = EspressoSettings(**others, core_energy_ev=390.0)
    assert EspressoSettings(**settings.model_dump()) == settings
    assert EspressoSettings(**others, core_hole="none").core_hole == "none"


def test_a_pseudopotential_of_the_same_name_is_another_setting(tmp_path):
    def hash_with(text):
        (tmp_path / "C_PBE_TM_2pj.UPF").write_text(text)
        return EspressoOracle(EspressoSettings(run={"pseudo_dirs": [tmp_path]})).settings_hash

    assert hash_with("one") == hash_with("one")
    assert len({hash_with("one"), hash_with("another"), EspressoOracle().settings_hash}) == 3


def test_debians_pseudopotentials_count_by_their_names():
    espresso({})
    assert EspressoOracle().programs.own_digests() == {}


def test_a_pseudopotential_that_changes_is_used_no_more(tmp_path):
    """Neither does a copy of the oracle on another node, with another file, nor is the hash another one meanwhile."""
    file = tmp_path / "C_PBE_TM_2pj.UPF"
    file.write_text("one")
    oracle = EspressoOracle(EspressoSettings(run={"pseudo_dirs": [tmp_path]}))
    before = oracle.settings_hash
    copy = pickle.loads(pickle.dumps(oracle))  # noqa: S301 - own bytes
    file.write_text("another")
    for one in (oracle, copy):
        assert one.settings_hash == before
        with pytest.raises(MissingData, match="not the file that it was"):
            one.programs.digests([file.name])
    file.unlink()
    assert oracle.settings_hash == before


def test_k_points_and_supercell_follow_the_cell():
    cubic = bulk("C", "diamond", 3.567, cubic=True)
    assert files.mesh(cubic, 0.8) == (3, 3, 3)
    assert files.mesh(cubic.repeat((2, 1, 1)), 0.8) == (2, 3, 3)
    assert files.repeats(cubic, 0) == (1, 1, 1)
    assert files.repeats(cubic, 7.0) == (2, 2, 2)
    assert files.repeats(Atoms("C", cell=[3, 10, 4], pbc=True), 6.0) == (2, 1, 2)


def test_one_atom_of_the_supercell_is_excited_and_comes_first():
    atoms = bulk("SiC", "zincblende", a=4.36)
    cell = files.excited_cell(atoms, 1, (2, 1, 1))
    assert cell.get_chemical_symbols() == ["X", "Si", "Si", "C"]
    np.testing.assert_allclose(cell.positions[0], atoms.positions[1])
    plane = files.Plane(30.0, (2, 2, 2), 0.1, 1e-8, 100, 0.3)
    text = files.pw_input(cell, {"X": "hole.UPF", "Si": "Si.UPF", "C": "C.UPF"}, plane, 1.0)
    species = text[text.index("ATOMIC_SPECIES") :].splitlines()[1:4]
    assert [line.split()[0::2] for line in species] == [["X", "hole.UPF"], ["Si", "Si.UPF"], ["C", "C.UPF"]]
    assert "tot_charge       = 1.0" in text


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"run": {"pw": ["no-such-pw.x"]}}, "no-such-pw.x"),
        ({"run": {"launcher": ["no-such-mpirun"]}}, "no-such-mpirun"),
        ({"run": {"pw": ["true"], "xspectra": ["true"], "pseudo_dirs": ["/nowhere"]}}, "UPF"),
    ],
)
def test_what_a_site_has_not_is_one_line_with_its_fix(change, match):
    with pytest.raises(UserError, match=match) as caught:
        make_oracle("espresso", change)
    assert "quantum-espresso" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pseudopotentials_are_found_plain_or_gzipped_in_order(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
    (second / "C.UPF").write_text("plain")
    assert find_pseudopotential("C.UPF", [first, second]) == second / "C.UPF"
    (first / "C.UPF.gz").write_bytes(gzip.compress(b"packed"))
    assert find_pseudopotential("C.UPF", [first, second]) == first / "C.UPF.gz"


def test_a_pseudopotential_that_is_not_on_this_node_is_missing_data(tmp_path):
    programs = Programs(EspressoRun(pseudo_dirs=[tmp_path]))
    with pytest.raises(MissingData, match=r"no pseudopotential C\.UPF") as caught:
        programs.pw(SimpleNamespace(folder=tmp_path), "", {"C": "C.UPF"})
    assert caught.value.retryable


@pytest.mark.parametrize("title", ["1    0     N  L                       1S     eig:  -20.59\n", ""])
def test_core_orbital_of_both_versions_of_the_format(title):
    number = ".1" if not title else ""
    text = (
        f'<PP_R type="real">\n 0.1 0.2\n 0.3\n</PP_R> <PP_GIPAW_CORE_ORBITAL{number}>\n{title}'
        f" 1.0 2.0E+00\n 3.0\n</PP_GIPAW_CORE_ORBITAL{number}>"
    )
    columns = np.loadtxt(core_orbital(text, "C").splitlines())
    np.testing.assert_allclose(columns, [[0.1, 1], [0.2, 2], [0.3, 3]])


def test_a_pseudopotential_without_core_orbital_does_not_fit():
    with pytest.raises(UnfitSettings, match=r"C\.UPF"):
        core_orbital("<PP_R>\n1\n</PP_R>", "C.UPF")


def ran(tmp_path: Path, text: str, status: int = 0) -> Ran:
    (tmp_path / "out").write_text(text)
    (tmp_path / "err").write_text("")
    return Ran(("pw.x",), status, 1.0, 1.0, 0.1, tmp_path / "out", tmp_path / "err")


BOX = "%" * 40


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("convergence NOT achieved after 100 iterations", NotConverged),
        (
            f"{BOX}\n Error in routine check_atoms (1):\n atoms #   1 and #   2 overlap!\n {BOX}\n",
            BadGeometry,
        ),
        (
            f"{BOX}\n Error in routine regterg (1):\n cannot allocate hpsi\n {BOX}\n",
            OutOfMemory,
        ),
        (
            f"{BOX}\n Error in routine allocate_fft (1):\n wrong ngm\n {BOX}\n",
            OracleCrash,
        ),
        (
            f"{BOX}\n Error in routine init_us_1 (2):\n Not enough space allocated for radial FFT\n {BOX}\n",
            OracleCrash,
        ),
        (
            f"{BOX}\n Error in routine c_bands (1):\n too many bands are not converged\n {BOX}\n",
            NotConverged,
        ),
        (f"{BOX}\n Error in routine electrons (1):\n charge is wrong\n {BOX}\n", NotConverged),
        (f"{BOX}\n Error in routine readpp (1):\n file not found\n {BOX}\n", OracleCrash),
        ("JOB DONE", OracleCrash),
        ("", OracleCrash),
    ],
)
def test_failures_of_pw_are_classified(tmp_path, text, kind):
    with pytest.raises(kind) as caught:
        files.read_pw(ran(tmp_path, text))
    assert "\n" not in caught.value.reason


def test_failures_of_xspectra_are_classified(tmp_path):
    with pytest.raises(NotConverged):
        files.read_xspectra(ran(tmp_path, "! k-point #   1\n"), tmp_path)
    with pytest.raises(OracleCrash, match=r"xanes\.dat"):
        files.read_xspectra(ran(tmp_path, "! k-point #   1\n=> CONVERGED at\n"), tmp_path)


@pytest.mark.slow
def test_pi_of_graphite_is_where_the_experiment_has_it():
    from ase.lattice.hexagonal import Graphite

    oracle = espresso({**CHEAP, "cutoff_ry": 35, "absorbers": [0]})
    label = oracle.label(Graphite("C", latticeconstant={"a": 2.461, "c": 6.708}))
    below = label.energies_ev < 4
    pi = label.energies_ev[np.where(below, label.xanes[0], 0).argmax()] + oracle.settings.zero_ev
    assert pi == pytest.approx(285.4, abs=1.5)
    assert not label.xanes[1:].any()
