"""FEFF: the contract on a small cell, its input and output files, and the physics of carbon."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from tests.programs import needs
from tests.services.oracles.contract import OracleContract

from nearedge_services.oracles.errors import BadGeometry, NotConverged, OracleCrash
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.feff import FeffOracle, FeffSettings
from nearedge_services.oracles.feff_files import Cards, feff_input, read_feff

#: The cheapest that still scatters: nearest neighbours and theirs.
CHEAP = {"r_scf_a": 2.6, "r_fms_a": 2.6, "l_max": 1}
CARDS = Cards(2.6, 2.6, 1, "hedin-lundqvist", "rpa", 100, 0.1, 30.0)


def primitive_diamond() -> Atoms:
    atoms = bulk("C", "diamond", 3.567)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.slow
class TestFeff(OracleContract):
    spectrum_tolerance = 3e-4  # 1 % of a peak: FEFF scatters in single precision

    @pytest.fixture(scope="class")
    def oracle(self):
        needs("feff10")
        return make_oracle("feff", CHEAP)

    @pytest.fixture(scope="class")
    def other_oracle(self):
        return make_oracle("feff", {**CHEAP, "sigma_ev": 0.5})

    @pytest.fixture(scope="class")
    def hopeless_oracle(self):
        needs("feff10")
        return make_oracle("feff", {**CHEAP, "scf_iterations": 1})

    @pytest.fixture(scope="class")
    def structure(self):
        atoms = bulk("SiC", "zincblende", a=4.36)  # small, and insulating at the Γ point of the energies
        atoms.rattle(0.05, seed=1)
        return atoms


def test_how_it_is_run_is_not_in_the_hash_and_all_else_is():
    plain = FeffOracle(FeffSettings())
    assert FeffOracle(FeffSettings(run={"workers": 3, "seconds": 60.0})).settings_hash == plain.settings_hash
    for change in ({"exchange": "dirac-hara"}, {"core_hole": "none"}, {"absorbers": (0,)}):
        assert FeffOracle(FeffSettings(**change)).settings_hash != plain.settings_hash


def test_input_has_the_cluster_and_a_potential_for_each_element():
    lines = feff_input(bulk("SiC", "zincblende", a=4.36), 0, CARDS).splitlines()
    potentials = lines[lines.index("POTENTIALS") + 1 : lines.index("ATOMS")]
    assert [line.split()[:3] for line in potentials] == [["0", "14", "Si"], ["1", "6", "C"]]
    atoms = [line.split() for line in lines[lines.index("ATOMS") + 1 : -1]]
    assert [atom[3] for atom in atoms] == ["0", "1", "1", "1", "1"]
    np.testing.assert_allclose([float(atom[5]) for atom in atoms[1:]], 4.36 * np.sqrt(3) / 4, atol=1e-6)


def test_input_does_not_depend_on_the_order_of_the_atoms():
    atoms = bulk("C", "diamond", 3.567, cubic=True)
    atoms.rattle(0.05, seed=1)
    order = np.array([3, 1, 0, 2, 7, 5, 6, 4])
    assert feff_input(atoms, 3, CARDS) == feff_input(atoms[order], 0, CARDS)


def test_an_atom_alone_is_bad_geometry():
    with pytest.raises(BadGeometry, match="neighbour"):
        feff_input(Atoms("C", cell=[9, 9, 9], pbc=True), 0, CARDS)


def write_results(folder, log: str, table: str):
    folder.mkdir()
    (folder / "log1.dat").write_text(log)
    (folder / "xmu.dat").write_text(table)


def test_spectrum_counts_from_the_fermi_level(tmp_path):
    table = "# Mu=-1.000E+01eV kf=1\n 280.0 -10.0 0 1.5 1 0\n 281.0 -9.0 0.5 2.5 1 0\n"
    write_results(tmp_path / "work", "Convergence reached in 5 iterations.", table)
    spectrum = read_feff(tmp_path / "work", tmp_path / "out")
    np.testing.assert_allclose(spectrum.energies_ev, [0, 1])
    np.testing.assert_allclose(spectrum.intensity, [1.5, 2.5])
    assert (spectrum.fermi_ev, spectrum.edge_ev) == (-10.0, 280.0)


@pytest.mark.parametrize(
    ("log", "table", "kind"),
    [
        ("20 iterations", "# Mu=-1.0E+01eV k\n 1 2 3 4\n 2 3 4 5\n", NotConverged),
        ("Convergence reached", "# nothing\n 1 2 3 4\n 2 3 4 5\n", OracleCrash),
        ("Convergence reached", "# Mu=-1.0E+01eV k\n 1 2 3 4\n 2 3 4\n", OracleCrash),
        ("Convergence reached", "# Mu=-1.0E+01eV k\n", OracleCrash),
    ],
)
def test_results_that_are_not_whole_are_classified(tmp_path, log, table, kind):
    write_results(tmp_path / "work", log, table)
    with pytest.raises(kind):
        read_feff(tmp_path / "work", tmp_path / "out")


def test_no_results_are_a_crash(tmp_path):
    (tmp_path / "out").write_text("words of FEFF")
    with pytest.raises(OracleCrash, match="no spectrum: words of FEFF"):
        read_feff(tmp_path / "work", tmp_path / "out")


@pytest.mark.slow
def test_chosen_absorbers_only():
    needs("feff10")
    label = make_oracle("feff", {**CHEAP, "absorbers": [1]}).label(primitive_diamond())
    assert label.xanes[1].max() > 0
    assert not label.xanes[0].any()


@pytest.mark.slow
def test_graphite_absorbs_below_the_edge_of_diamond():
    needs("feff10")
    from ase.lattice.hexagonal import Graphite

    oracle = make_oracle("feff", {"absorbers": [0]})
    graphite = oracle.label(Graphite("C", latticeconstant={"a": 2.461, "c": 6.708}))
    diamond = oracle.label(bulk("C", "diamond", 3.567))
    below = graphite.energies_ev < 5
    assert graphite.xanes[0][below].sum() > 2 * diamond.xanes[0][below].sum()
