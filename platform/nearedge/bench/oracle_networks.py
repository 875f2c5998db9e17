"""Amorphous networks in the bench ``oracles``: where they come from, and how each oracle orders them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from nearedge.bench.base import BenchOptions, Row
from nearedge.bench.oracle_cases import NETWORK_ATOMS, NETWORK_DENSITIES_G_CM3, Case
from nearedge.bench.oracle_measures import MEASURES, measure_rows, measured
from nearedge.bench.oracle_rows import COMMON_EV, Crystal, common, network_rows, ranking_rows
from nearedge.bench.oracle_spectra import Spectra, SpectraFolder
from nearedge_db.errors import UserError
from nearedge_services.oracles.seed import make_network
from nearedge_services.structures.composition import density_g_cm3, parse_composition
from nearedge_services.structures.coordination import coordination_numbers
from nearedge_services.structures.extxyz import labelled, read_structures, write_structures

Array = npt.NDArray[np.float64]

_JUDGE = "gpaw"
_FOUR_FOLD = 4
_STEP_EV = 0.25
_AREA = "π*/σ* area"


def make_or_read_networks(options: BenchOptions) -> list[Atoms]:
    """From the file, as many as the bench makes, spread over its densities; else made, or kept from before."""
    if options.reference is not None:
        frames = sorted(read_structures(options.reference), key=density_g_cm3)
        if any(set(atoms.get_chemical_symbols()) != {"C"} for atoms in frames):
            raise UserError(
                "the reference is not of carbon alone", got=options.reference, fix="give carbon networks"
            )
        wanted = np.linspace(0, len(frames) - 1, min(len(frames), len(NETWORK_DENSITIES_G_CM3)))
        return [frames[round(index)] for index in wanted]
    path = options.out / f"oracles-networks-{NETWORK_ATOMS}-{options.seed}.extxyz"
    if not path.is_file():
        composition = parse_composition(f"C{NETWORK_ATOMS}")
        made = [
            make_network(composition, density, options.seed + number)
            for number, density in enumerate(NETWORK_DENSITIES_G_CM3)
        ]
        write_structures(path, made)
    return read_structures(path)


def chosen(atoms: Atoms, count: int | None) -> tuple[int, ...] | None:
    """So many atoms that stand for all: equally far apart in the order of their coordination. None: all."""
    if count is None:
        return None
    order = np.argsort(coordination_numbers(atoms), kind="stable")
    places = ((np.arange(count) + 0.5) * len(atoms) / count).astype(int)
    return tuple(sorted(int(index) for index in order[places]))


def rank_networks(
    kept: SpectraFolder,
    cases: Mapping[str, Case],
    crystals: Mapping[str, Crystal],
    networks: Sequence[Atoms],
    begin: Callable[[str], None],
) -> tuple[list[Row], dict[str, Any]]:
    """The networks by every case that has settings for them and whose crystals are known; see `network_rows`,
    `measure_rows`, `ranking_rows`. ``begin`` is told what is calculated now.
    """
    found: dict[str, list[Spectra]] = {}
    largest = max(len(atoms) for atoms in networks)
    rows: list[Row] = []
    for name, crystal in crystals.items():
        if cases[name].network is None:
            continue
        if largest > cases[name].largest_network:
            rows.append(Row.shown(f"{name}: not shown networks, {largest} atoms take it too long", None))
            continue
        begin(f"{name}, networks")
        of_all = [_network(kept, name, cases[name], atoms, crystal.energies_ev) for atoms in networks]
        whole = [one for one in of_all if one is not None]
        if len(whole) == len(networks):
            found[name] = whole
    unsaturated = [float(np.mean(coordination_numbers(atoms) < _FOUR_FOLD)) for atoms in networks]
    data: dict[str, Any] = {"unsaturated": unsaturated, "density_g_cm3": [density_g_cm3(a) for a in networks]}
    judge = next((name for name in found if cases[name].oracle == _JUDGE), None)
    for name, spectra in found.items():
        means = [one.mean for one in spectra]
        more, data[name] = network_rows(name, crystals[name], means, unsaturated)
        data[name].update(spectra=means, seconds=[one.seconds for one in spectra], atoms=largest)
        others, data[name]["measures"] = measure_rows(name, crystals[name], means, unsaturated)
        rows += [*more, *others, *_by_coordination(name, crystals[name], spectra, networks)]
        if judge is not None and name != judge:
            more, data[name]["ranking"] = _against(
                name, (spectra, found[judge]), (crystals[name], crystals[judge])
            )
            rows += more
    if judge is None:
        rows.append(Row.shown(f"not compared with {_JUDGE}: it has no spectra of the networks", None))
    return rows, data


def _network(kept: SpectraFolder, name: str, case: Case, atoms: Atoms, axis_ev: Array) -> Spectra | None:
    """Of one network: by calculation, or from a file with labels of gpaw, on the axis and of unit sum.

    Labels that do not say whose they are count as those of gpaw.
    """
    if case.oracle == _JUDGE and labelled(atoms) and atoms.info.get("oracle", _JUDGE) == _JUDGE:
        axis = np.asarray(atoms.info["xanes_energies"], dtype=float)
        return Spectra(axis_ev, np.array([common(axis, row, axis_ev) for row in atoms.arrays["xanes"]]), 0.0)
    settings = case.for_network(chosen(atoms, case.network_absorbers))
    title = f"{name}, network of {density_g_cm3(atoms):.2f} g/cm³"
    return kept.find(title, case.oracle, settings, atoms)


def _by_coordination(
    name: str, crystal: Crystal, spectra: Sequence[Spectra], networks: Sequence[Atoms]
) -> list[Row]:
    """Median of the ratio of areas, and of each further measure, of the three-fold absorbers of all networks, beside
    that of the four-fold ones.
    """
    found: dict[int, list[Array]] = {_FOUR_FOLD - 1: [], _FOUR_FOLD: []}
    for one, atoms in zip(spectra, networks, strict=True):
        neighbours = coordination_numbers(atoms)
        for atom in one.calculated:
            if int(neighbours[atom]) in found:
                found[int(neighbours[atom])].append(one.rows[atom])
    rows = []
    for title in (_AREA, *MEASURES):
        three, four = (
            float(np.median([_value(title, crystal, spectrum) for spectrum in own])) if own else None
            for own in found.values()
        )
        rows.append(
            Row.shown(f"{name}: {title} of three-fold atoms beside four-fold ones, medians", three, "", four)
        )
    return rows


def _value(title: str, crystal: Crystal, spectrum: Array) -> float:
    if title == _AREA:
        return crystal.sp2_by_area(crystal.energies_ev, spectrum)
    return measured(title, crystal, spectrum)


def _against(
    name: str, pair: tuple[Sequence[Spectra], Sequence[Spectra]], crystals: tuple[Crystal, Crystal]
) -> tuple[list[Row], dict[str, Any]]:
    """The absorbers that both have, and the networks by the mean over these, ordered by both: the named oracle first,
    then the one that judges.
    """
    axis = np.arange(COMMON_EV[0], COMMON_EV[1] + _STEP_EV / 2, _STEP_EV)
    absorbers: tuple[list[Array], list[Array]] = ([], [])
    networks: tuple[list[Array], list[Array]] = ([], [])
    for both in zip(*pair, strict=True):
        atoms = sorted(set(both[0].calculated) & set(both[1].calculated))
        for side, one in enumerate(both):
            own = [common(one.energies_ev, one.rows[atom], axis) for atom in atoms]
            absorbers[side].extend(own)
            networks[side].append(np.mean(own, axis=0))
    rows: list[Row] = []
    data = {}
    for of, spectra in (("absorbers", absorbers), ("networks", networks)):
        shares = tuple(
            [crystal.sp2_by_area(axis, spectrum) for spectrum in side]
            for crystal, side in zip(crystals, spectra, strict=True)
        )
        more, data[of] = ranking_rows(name, *spectra, (shares[0], shares[1]), of)
        rows += more
    return rows, data
