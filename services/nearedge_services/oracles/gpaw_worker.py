"""One GPAW calculation, or one setup, in an interpreter of its own: reads ``job.json``, leaves ``result.npz``.

It is a program, run by its path in a scratch folder, alone or by an MPI launcher; nothing of NearEdge is needed to run
it. What GPAW prints goes to ``gpaw.txt``. A failure that is understood is left as ``error.json``.
"""

import json
import math
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

Array = npt.NDArray[np.float64]

_MOST_TRIES = 3
_FEWEST_BANDS = 4


def main() -> None:
    """Do what ``job.json`` says."""
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    if not job.get(
        "mpi"
    ):  # whoever started Ray with a launcher has left them, and GPAW would refuse to start
        for name in OF_A_LAUNCHER:
            os.environ.pop(name, None)
    if job["task"] == "setup":
        make_setup(job)
        return
    if job["mpi"]:
        if not hasattr(import_module("_gpaw"), "Communicator"):
            fail("MissingData", "there is a launcher, and this GPAW was built without MPI: see deploy/dft")
            return
        os.environ.setdefault("GPAW_MPI_BACKEND", "cgpaw")  # as `gpaw python` does
    from gpaw import KohnShamConvergenceError
    from gpaw.mpi import world

    try:
        result = calculate(job)
    except KohnShamConvergenceError:
        if world.rank == 0:
            fail("NotConverged", f"GPAW: not self-consistent within {job['iterations']} iterations")
        return
    except NotEnoughBandsError as error:
        if world.rank == 0:
            fail("NotConverged", str(error))
        return
    if world.rank == 0:
        np.savez("result.npz", **result)


OF_A_LAUNCHER = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "I_MPI_MPIRUN")
"""Environment variables by which a program knows that an MPI launcher has started it."""


class NotEnoughBandsError(Exception):
    """The empty bands end below the window."""


def fail(kind: str, reason: str) -> None:
    """Leave the reason; the process itself ends well."""
    Path("error.json").write_text(json.dumps({"kind": kind, "reason": reason}), encoding="utf-8")


def make_setup(job: dict[str, Any]) -> None:
    """A PAW setup with ``hole`` electrons missing in 1s, as the file ``SYMBOL.NAME.PBE`` in this folder."""
    from gpaw.atom.gpaw_setup import main as gpaw_setup

    # the program takes its arguments from the command line only
    sys.argv = [
        "gpaw-setup",
        "-f",
        "PBE",
        job["symbol"],
        f"--name={job['name']}",
        f"--core-hole=1s,{job['hole']}",
    ]
    gpaw_setup()


def calculate(job: dict[str, Any]) -> dict[str, Any]:
    """Energy (eV), forces (eV/Å), stress (eV/Å³, Voigt), bands and the dipole strengths of the absorbers."""
    atoms = Atoms(job["numbers"], positions=job["positions"], cell=job["cell"], pbc=True)
    bands = job["bands"] or guessed_bands(job, atoms)
    for attempt in range(_MOST_TRIES):
        calculator = make_calculator(job, bands)
        atoms.calc = calculator
        # the lone 1s electron lowers the energy: in a setup with a hole, GPAW has it in one of the spins
        energy = atoms.get_potential_energy(force_consistent=True)
        if not job["absorbers"]:
            break
        end, wanted = reach(calculator, job["stop_ev"], bands)
        if end >= job["stop_ev"]:
            break
        if job["bands"] or attempt == _MOST_TRIES - 1:
            raise NotEnoughBandsError(
                f"{bands} bands end {end:.1f} eV above the Fermi level, and the window at {job['stop_ev']:.1f} eV: "
                f"set bands_per_atom to {math.ceil(10 * wanted / len(atoms)) / 10:g} or more, or stop_ev lower"
            )
        bands = wanted
    result = {
        "energy_ev": energy,
        "reference_ev": reference_energy(calculator),
        "fermi_ev": calculator.get_fermi_level(),
        "bands": bands,
    }
    if job["forces"]:
        result["forces"] = atoms.get_forces()
        result["stress"] = atoms.get_stress()
    if job["absorbers"]:
        result.update(transitions(calculator, job["absorbers"]))
    return result


def make_calculator(job: dict[str, Any], bands: int) -> Any:
    """A plane-wave calculator; XAS wants the legacy one."""
    from gpaw import GPAW, PW, FermiDirac

    # the uppermost tenth of the bands is only there to let the others converge
    converged = min(bands - 1, math.ceil(0.9 * bands)) if job["absorbers"] else "occupied"
    mixer = (
        {}
        if job["mixing"] is None
        else {"backend": "pulay", "beta": job["mixing"], "nmaxold": 5, "weight": 50}
    )
    return GPAW(
        mode=PW(job["cutoff_ev"]),
        xc="PBE",
        kpts={"size": job["k_points"], "gamma": True},
        symmetry="off",
        nbands=bands,
        occupations=FermiDirac(job["smearing_ev"]),
        setups={int(key) if key.isdigit() else key: name for key, name in job["setups"].items()},
        charge=job["charge"],
        spinpol=job["spin"],
        eigensolver=SOLVERS[job["eigensolver"]],
        parallel=spread_over(job["k_points"]),
        mixer=mixer,
        maxiter=job["iterations"],
        convergence={
            "bands": converged,
            "density": job["density_tolerance"],
            "eigenstates": job["states_tolerance"],
            "energy": job["energy_tolerance_ev"],
        },
        txt="gpaw.txt",
        legacy_gpaw=True,
    )


SOLVERS = {
    "davidson": {"name": "dav", "niter": 2},
    "cg": {"name": "cg"},
}


def spread_over(k_points: list[int]) -> dict[str, int]:
    """Groups of MPI processes that have as many k-points each: XAS counts on it. Within a group they share the grid."""
    from gpaw.mpi import world

    return {"kpt": math.gcd(world.size, math.prod(k_points))}


def valence_electrons(job: dict[str, Any]) -> float:
    """Of the whole cell, counted by its setups."""
    from ase.data import chemical_symbols
    from gpaw.setup_data import SetupData

    kinds, counts = np.unique(job["numbers"], return_counts=True)
    valence = np.array([SetupData(chemical_symbols[kind], "PBE").Nv for kind in kinds], dtype=float)
    return float(np.dot(valence, counts) - job["charge"])


def guessed_bands(job: dict[str, Any], atoms: Atoms) -> int:
    """As many as free electrons of this density have below the window's end, and a quarter more.

    N(E) = V (2E)^(3/2) / (6π²) in atomic units.
    """
    from ase.units import Bohr, Hartree

    occupied = math.ceil(valence_electrons(job) / 2)
    if not job["absorbers"]:
        return occupied + max(_FEWEST_BANDS, occupied // 8)
    states = abs(atoms.get_volume()) / Bohr**3 / (6 * math.pi**2)
    fermi = (occupied / states) ** (2 / 3) / 2
    top = fermi + job["stop_ev"] / Hartree
    return max(math.ceil(1.25 * states * (2 * top) ** 1.5), occupied + _FEWEST_BANDS)


def reach(calculator: Any, stop_ev: float, bands: int) -> tuple[float, int]:
    """Where the converged bands end, eV above the Fermi level, and how many would do, as of free electrons."""
    eigenvalues = eigenvalues_of(calculator)
    fermi = calculator.get_fermi_level()
    last = min(bands - 1, math.ceil(0.9 * bands)) - 1
    end = float(eigenvalues[:, last].min() - fermi)
    bottom = float(eigenvalues.min() - fermi)
    wanted = bands * ((stop_ev - bottom) / (end - bottom)) ** 1.5
    return end, max(math.ceil(1.05 * wanted), bands + 1)


def eigenvalues_of(calculator: Any) -> Array:
    """All bands (K, n), eV."""
    points = range(len(calculator.get_ibz_k_points()))
    return np.array([calculator.get_eigenvalues(kpt=k) for k in points])


def transitions(calculator: Any, absorbers: list[int]) -> dict[str, Array]:
    """Energies (K, n) in eV, occupations (K, n) from 0 to 1, and |<1s|r|n>|² (A, K, n), weighed by k-point, bohr²."""
    from gpaw.xas import XAS

    points = range(len(calculator.get_ibz_k_points()))
    weights = calculator.get_k_point_weights()
    filled = [calculator.get_occupation_numbers(kpt=k) / (2 * weights[k]) for k in points]
    strengths = []
    for absorber in absorbers:
        spectrum = XAS(calculator, mode="all", center=absorber)
        strengths.append((np.abs(spectrum.sigma_cmkn) ** 2).sum(axis=(0, 1)) / 3)
    return {
        "energies_ev": np.array(spectrum.eps_kn),
        "occupations": np.array(filled),
        "strengths": np.array(strengths),
    }


def reference_energy(calculator: Any) -> float:
    """Of the atoms, all electrons, that GPAW counts energies from, eV; that of a setup with a hole has the hole."""
    from ase.units import Hartree

    return float(sum(setup.E for setup in calculator.wfs.setups) * Hartree)


if __name__ == "__main__":
    main()
