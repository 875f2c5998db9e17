"""Bench ``oracles``: carbon's known spectra by every oracle that is installed, and how alike they rank structures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.build import bulk

from nearedge.bench.base import BenchOptions, BenchResult, Report
from nearedge.bench.oracle_rows import Crystal, crystal_rows, ranking_rows
from nearedge.bench.oracles_picture import draw
from nearedge_db.errors import UserError
from nearedge_services.oracles.base import Oracle
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.per_absorber import Finished
from nearedge_services.structures.coordination import coordination_fractions
from nearedge_services.structures.extxyz import labelled, read_structures

Array = npt.NDArray[np.float64]

#: Of each reference network, for oracles that take a run for each absorber.
_FEW_ABSORBERS = (5, 21, 37, 53)


@dataclass(frozen=True)
class Case:
    """An oracle as the bench uses it.

    Attributes:
        oracle: its name.
        settings: beside its defaults.
        one_absorber: it takes a run for each absorber, and a primitive cell is enough; else all atoms of 64.
        long: not in the short form.
        ranks: it labels the reference networks too.
    """

    oracle: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    one_absorber: bool = False
    long: bool = False
    ranks: bool = False


CASES: dict[str, Case] = {
    "xtb": Case("xtb", ranks=True),
    "xtb, Z+1": Case("xtb", {"core_hole": "z+1"}, long=True),
    "feff": Case("feff", one_absorber=True, ranks=True),
    "feff, l_max 1": Case("feff", {"l_max": 1}, one_absorber=True, long=True),
    "feff, l_max 3": Case("feff", {"l_max": 3}, one_absorber=True, long=True),
    "feff, 5.5 Å": Case("feff", {"r_fms_a": 5.5}, one_absorber=True, long=True),
    "espresso, no supercell": Case("espresso", {"image_distance_a": 0}, one_absorber=True),
    "espresso, no supercell, 60 Ry": Case(
        "espresso", {"image_distance_a": 0, "cutoff_ry": 60}, one_absorber=True, long=True
    ),
    "espresso, no supercell, k 0.5/Å": Case(
        "espresso", {"image_distance_a": 0, "k_spacing_per_a": 0.5}, one_absorber=True, long=True
    ),
    "espresso, holes 4 Å apart": Case("espresso", {"image_distance_a": 4.0}, one_absorber=True, long=True),
}
"""What is measured; the first of an oracle is the one that the others are judged by."""


class OraclesBench:
    """Graphite and diamond beside experiment, and amorphous networks beside the labels of a reference."""

    name = "oracles"

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """Label what is not labelled yet; every spectrum is kept in the output folder as it comes.

        ``options.reference``: labelled networks, from a better method, to rank. Raises UserError where they have
        no labels.
        """
        frames = _reference(options)
        cases = {name: case for name, case in CASES.items() if not (options.short and case.long)}
        crystals: dict[str, Crystal] = {}
        networks: dict[str, list[Array]] = {}
        missing: dict[str, str] = {}
        for number, (name, case) in enumerate(cases.items()):
            report(number / len(cases), name)
            try:
                oracle = make_oracle(case.oracle, {**case.settings, **_absorbers(case, (0,))})
            except UserError as error:
                missing[name] = str(error)
                continue
            kept = options.out / "oracles-spectra"
            spectra = [_spectrum(oracle, atoms, kept) for atoms in _crystals(case)]
            crystals[name] = Crystal(oracle.grid.energies, *spectra)
            if case.ranks and not options.short:
                among = make_oracle(case.oracle, {**case.settings, **_absorbers(case, _FEW_ABSORBERS)})
                networks[name] = [_spectrum(among, atoms, kept) for atoms in frames]
        rows = [row for name, crystal in crystals.items() for row in crystal_rows(name, crystal)]
        data: dict[str, Any] = {
            "crystals": {name: vars(c) for name, c in crystals.items()},
            "missing": missing,
        }
        for name, spectra in networks.items():
            if not spectra:
                continue
            few = _FEW_ABSORBERS if cases[name].one_absorber else range(len(frames[0]))
            true = [_normal(atoms.arrays["xanes"][list(few)].mean(axis=0)) for atoms in frames]
            axis = np.asarray(frames[0].info["xanes_energies"], dtype=float)
            common = [_normal(np.interp(axis, crystals[name].energies_ev, one)) for one in spectra]
            unsaturated = [1.0 - coordination_fractions(atoms).get(4, 0.0) for atoms in frames]
            found, data[f"ranking, {name}"] = ranking_rows(name, axis, common, true, unsaturated)
            rows += found
        return BenchResult(self.name, rows, data)

    def draw(self, result: BenchResult, path: Path) -> None:
        """Write the picture."""
        draw(result, path)


def _reference(options: BenchOptions) -> list[Atoms]:
    if options.reference is None:
        return []
    frames = read_structures(options.reference)
    if not frames or not all(labelled(atoms) for atoms in frames):
        raise UserError("the reference has no labels", got=options.reference, fix="give labelled structures")
    return frames


def _absorbers(case: Case, wanted: Sequence[int]) -> dict[str, Any]:
    return {"absorbers": list(wanted)} if case.one_absorber else {}


def _crystals(case: Case) -> tuple[Atoms, Atoms]:
    """Graphite and diamond."""
    from ase.lattice.hexagonal import Graphite

    size = (1, 1, 1) if case.one_absorber else (4, 4, 1)
    graphite = Graphite("C", latticeconstant={"a": 2.461, "c": 6.708}, size=size)
    diamond = bulk("C", "diamond", 3.567, cubic=not case.one_absorber)
    return Atoms(graphite), diamond if case.one_absorber else diamond.repeat(2)


def _spectrum(oracle: Oracle, atoms: Atoms, kept: Path) -> Array:
    """Mean over the absorbers, of unit sum (E,): kept, or calculated now."""
    store = Finished(atoms, oracle.settings_hash, kept)
    found = store.load("label")
    if found is None:
        found = {"xanes": oracle.label(atoms).xanes}
        store.keep("label", found)
    rows = found["xanes"]
    return _normal(rows[rows.any(axis=1)].mean(axis=0))


def _normal(spectrum: Array) -> Array:
    return spectrum / spectrum.sum()
