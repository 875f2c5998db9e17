"""Everything that can be wrong with a campaign, checked before Ray starts and before any expensive work."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from pydantic import BaseModel, ValidationError

from nearedge.acquisition import make_policy
from nearedge.config import ALIGNMENT_WINDOW_END_EV, MODEL_KINDS, CampaignConfig, TargetConfig
from nearedge.fidelity import ConfirmConfig, OracleConfig
from nearedge.rayaddress import check_listens
from nearedge.rundir import RunDir, mlflow_uri_of_run
from nearedge.site import name_of_address, ray_address
from nearedge.starting import Start, choose_start
from nearedge_agents.kinds import make_kind
from nearedge_db.errors import UserError
from nearedge_db.hashing import structure_hash
from nearedge_services.oracles.base import Oracle
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.registry.reachable import StoreDownError, check_store
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.reading import read_spectrum
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import LEAST_OVERLAP_EV, Target
from nearedge_services.structures.bond_order import ELEMENTS
from nearedge_services.structures.composition import Composition, parse_composition
from nearedge_services.structures.coordination import shortest_contact
from nearedge_services.structures.extxyz import read_structures
from nearedge_services.structures.validity import is_valid

MIN_ATOMS, MAX_ATOMS = 4, 4096
"""Atoms of a cell: fewer is no network, more than that no oracle here labels in a campaign's time."""
MIN_STARTING_STRUCTURES = 4
MIN_VOLUME_A3 = 1e-3
ROOM_EV = 1.0
"""How much longer than its window a spectrum to be aligned must be: without room there is no shift to choose."""


@dataclass(frozen=True)
class Checked:
    """What the checks produced on the way: nothing here was expensive."""

    config: CampaignConfig
    absorber: str
    spectrum: Spectrum
    target: Target | None
    """None until the spectrum is aligned with the starting structures."""
    oracle: Oracle
    confirming: Oracle | None
    """The second oracle, if there is one."""
    starting: list[Atoms]
    """The user's own starting structures, if any."""
    start: Start
    """The models it starts from."""
    mlflow_down: str | None = None
    """Why the MLflow server that this campaign was begun with cannot be used now, if it cannot."""


def check(config: CampaignConfig) -> Checked:
    """Check everything but the database. Raises UserError, one line, for the first thing that is wrong."""
    spectrum = read_spectrum(config.target.file)
    composition = _composition(config)
    elements = set(composition.counts)
    absorber = _absorber(config, composition)
    oracle = _oracle(config, config.oracle, elements, absorber)
    confirming = _confirming(config, oracle, elements, absorber)
    make_policy(config.acquisition.policy)
    check_model_settings(config)
    check_room(config)
    starting = _starting_structures(config, elements, absorber)
    target = (
        None
        if config.target.align
        else Target.from_spectrum(spectrum, oracle.grid, absorber, config.target.window_ev)
    )
    usable = _usable(spectrum, config.target)
    if config.target.align:
        _check_room_to_shift(usable, alignment_window(config.target, oracle.grid))
    start = choose_start(config, elements, absorber, oracle)
    address = ray_address(config.ray.address)
    if address is not None:
        check_listens(address, name=name_of_address(config.ray.address))
    mlflow_down = None if config.mlflow is None else _check_server(config.mlflow, config.run_dir)
    check_writable(config.run_dir)  # late: bad input leaves no directory behind
    if config.mlflow is None:
        check_store(mlflow_uri_of_run(config.run_dir))
    return Checked(config, absorber, usable, target, oracle, confirming, starting, start, mlflow_down)


def _oracle(
    config: CampaignConfig,
    given: OracleConfig | ConfirmConfig,
    elements: set[str],
    absorber: str,
    where: str = "oracle",
) -> Oracle:
    oracle = make_oracle(given.name, dict(given.settings))
    oracle.check_elements(np.array([atomic_numbers[symbol] for symbol in sorted(elements)]))
    check_oracle_run(config, oracle, absorber, where)
    return oracle


def _confirming(config: CampaignConfig, oracle: Oracle, elements: set[str], absorber: str) -> Oracle | None:
    """The second oracle, which must be another one than the first."""
    if config.confirm is None:
        return None
    confirming = _oracle(config, config.confirm, elements, absorber, "confirm")
    if confirming.settings_hash == oracle.settings_hash:
        raise UserError(
            "confirm is the same oracle with the same settings as oracle",
            got=f"{config.confirm.name} {dict(config.confirm.settings)}",
            fix="name a better method, or remove confirm",
        )
    return confirming


def _check_server(tracking_uri: str, run_dir: Path) -> str | None:
    """Refuse an MLflow store that cannot be used; one that a campaign goes on with may be down, and why is returned.

    A new campaign is refused then too: a wrong address is likelier than a server that is down.
    """
    try:
        check_store(tracking_uri)
    except StoreDownError as error:
        if not RunDir(run_dir).exists:
            raise
        return f"{error.what}; {error.got}"
    return None


def _composition(config: CampaignConfig) -> Composition:
    """The material's, after a look at that of the generated cells."""
    composition = parse_composition(config.material.composition)
    generated = parse_composition(config.generated_composition)
    if set(generated.counts) != set(composition.counts):
        raise UserError(
            "generation.composition has other elements than material.composition",
            got=f"{sorted(generated.counts)} and {sorted(composition.counts)}",
            fix="use the same elements in both",
        )
    for key, cell in (("material", composition), ("generation", generated)):
        if not MIN_ATOMS <= cell.size <= MAX_ATOMS:
            raise UserError(
                f"{key}.composition has too {'few' if cell.size < MIN_ATOMS else 'many'} atoms",
                got=f"{cell.formula}: {cell.size}",
                fix=f"name a cell of {MIN_ATOMS} to {MAX_ATOMS} atoms",
            )
    return composition


def _absorber(config: CampaignConfig, composition: Composition) -> str:
    absorber = config.target.absorber or composition.elements[0]
    if absorber not in composition.counts:
        raise UserError(
            "target.absorber is not in the material",
            got=absorber,
            fix=f"choose one of {sorted(composition.counts)}",
        )
    if absorber in ("H", "He"):
        raise UserError(
            "target.absorber has no K-edge into p states", got=absorber, fix="choose a heavier element"
        )
    return absorber


def check_writable(folder: Path) -> None:
    """Create the folder and write in it. Raises UserError when that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            "cannot write in the run directory",
            got=f"{folder} ({os.strerror(error.errno or 0)})",
            fix="choose another with --dir or mend its permissions",
        ) from None


def check_room(config: CampaignConfig) -> None:
    """Refuse a local Ray that is too small for an actor: it would wait for ever. Of a cluster its nodes decide."""
    cpus = config.ray.num_cpus
    if ray_address(config.ray.address) is not None or cpus is None:
        return
    for name, pool in config.pools.items():
        if pool.cpus > cpus:
            raise UserError(
                f"ray.num_cpus has no room for an actor of pools.{name}",
                got=f"{cpus} for {pool.cpus:g} CPUs",
                fix=f"raise it, leave it out, or lower pools.{name}.cpus",
            )


def check_oracle_run(config: CampaignConfig, oracle: Oracle, absorber: str, where: str = "oracle") -> None:
    """Refuse an oracle that leaves atoms of the absorber out, and one that would take more CPUs than its actor has."""
    absorbers = getattr(oracle.settings, "absorbers", None)
    if absorbers is not None and absorber not in absorbers:
        raise UserError(
            f"a campaign needs the spectra of all {absorber} atoms",
            got=f"{where}.settings.absorbers: {list(absorbers)}",
            fix=f"leave it out, or name the element: [{absorber}]",
        )
    run = getattr(oracle.settings, "run", None)
    workers, cpus = getattr(run, "workers", 1), config.pools["labeler"].cpus
    if workers > max(cpus, 1):
        raise UserError(
            f"{where}.settings.run.workers are more than the CPUs of a labeler",
            got=f"{workers} workers, pools.labeler.cpus: {cpus:g}",
            fix=f"set pools.labeler.cpus: {workers}, or fewer workers",
        )


def check_model_settings(config: CampaignConfig) -> None:
    """Validate the settings of models, sampler and seeds with the classes that own them."""
    from nearedge_services.diffusion.sampler import SamplerSettings
    from nearedge_services.oracles.seed import SeedSettings

    for kind in MODEL_KINDS:
        given = getattr(config.models, kind)
        _validate(make_kind(kind).settings, given, f"models.{kind}")
        _validate(
            make_kind(kind).settings,
            {**given, **config.models.retrain.get(kind, {})},
            f"models.retrain.{kind}",
        )
    unknown = sorted(set(config.models.retrain) - set(MODEL_KINDS))
    if unknown:
        raise UserError("unknown key in models.retrain", got=unknown, fix=f"use {list(MODEL_KINDS)}")
    _validate(SamplerSettings, config.generation.sampler, "generation.sampler")
    _validate(SeedSettings, config.seeds.settings, "seeds.settings")


def _validate(settings: type[BaseModel], given: dict, where: str) -> None:
    try:
        settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([where, *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(settings.model_fields))
            raise UserError(
                f"unknown key {key!r}", got=repr(first["input"]), fix=f"known keys: {known}"
            ) from None
        raise UserError(f"bad value for {key!r}", got=repr(first["input"]), fix=first["msg"]) from None


def group_of(atoms: Atoms, index: int) -> str:
    """Name of the network that the user's starting structure ``index`` is a frame of: held out together."""
    return str(atoms.info.get("group", f"starting-{index}"))


def _starting_structures(config: CampaignConfig, elements: set[str], absorber: str) -> list[Atoms]:
    if config.seeds.file is None:
        unknown = sorted(elements - set(ELEMENTS))
        if unknown:
            raise UserError(
                "the built-in melt-quench has no potential for an element of the material",
                got=", ".join(unknown),
                fix="give your own starting structures with seeds.file",
            )
        return []
    structures = read_structures(config.seeds.file)
    for index, atoms in enumerate(structures):
        _check_starting_structure(
            atoms, f"starting structure {index} of {config.seeds.file}", elements, absorber
        )
    _check_ensemble(structures, config.seeds.file)
    return structures


def _check_starting_structure(atoms: Atoms, name: str, elements: set[str], absorber: str) -> None:
    symbols = set(atoms.get_chemical_symbols())
    if symbols - elements:
        raise UserError(
            f"{name} has an element the material has not",
            got=", ".join(sorted(symbols - elements)),
            fix="add it to material.composition or remove the structure",
        )
    if absorber not in symbols:
        raise UserError(
            f"{name} has no atom of the absorbing element", got=absorber, fix="remove the structure"
        )
    if not atoms.pbc.all():
        raise UserError(
            f"{name} is not periodic in three directions",
            got=f"pbc {atoms.pbc.tolist()}",
            fix="give it a cell and pbc='T T T'",
        )
    volume_a3 = abs(float(np.linalg.det(atoms.cell.array)))
    if volume_a3 < MIN_VOLUME_A3:
        raise UserError(f"the cell of {name} has no volume", got=f"{volume_a3:g} Å³", fix="give it a cell")
    if not is_valid(atoms):
        raise UserError(
            f"{name} has overlapping atoms",
            got=f"a contact of {shortest_contact(atoms):.2f} Å",
            fix="relax or remove the structure",
        )


def _check_ensemble(structures: list[Atoms], file: Path) -> None:
    """Enough different structures, of two networks at least."""
    groups = {
        structure_hash(atoms.numbers, atoms.positions, atoms.cell.array): group_of(atoms, index)
        for index, atoms in enumerate(structures)
    }
    if len(groups) < MIN_STARTING_STRUCTURES:
        raise UserError(
            "too few starting structures to train on",
            got=f"{len(groups)} different ones of {len(structures)}",
            fix=f"give at least {MIN_STARTING_STRUCTURES}, better 20",
        )
    if len(set(groups.values())) < 2:
        raise UserError(
            "all starting structures are of one group, so none can be held out to judge the models",
            got=f"{len(structures)} structures in {file}",
            fix="give structures of at least two networks, or remove `group`",
        )


def alignment_window(target: TargetConfig, grid: EnergyGrid) -> tuple[float, float]:
    """Window in eV on the oracle's axis in which a spectrum is aligned and compared: given, or the default.

    Raises UserError when it reaches outside the oracle's grid or is narrower than 5 eV.
    """
    window = target.window_ev or (grid.start_ev, min(grid.stop_ev, ALIGNMENT_WINDOW_END_EV))
    fix = f"set target.window_ev to {LEAST_OVERLAP_EV:g} eV or more within the oracle's energies"
    energies = f"{window[0]:g} to {window[1]:g} eV, oracle {grid.start_ev:g} to {grid.stop_ev:g} eV"
    if window[1] - window[0] < LEAST_OVERLAP_EV:
        raise UserError("the window of the alignment is too narrow", got=energies, fix=fix)
    if window[0] < grid.start_ev - 1e-9 or window[1] > grid.stop_ev + 1e-9:
        raise UserError(
            "the window of the alignment reaches outside the oracle's energies", got=energies, fix=fix
        )
    return window


def _check_room_to_shift(spectrum: Spectrum, window_ev: tuple[float, float]) -> None:
    first, last = spectrum.range_ev
    width = window_ev[1] - window_ev[0]
    if last - first < width + ROOM_EV:
        raise UserError(
            "the spectrum is too short to be aligned",
            got=f"{first:g} to {last:g} eV for a window of {width:g} eV",
            fix=f"set a target.window_ev that is {ROOM_EV:g} eV narrower than the spectrum, or more",
        )


def _usable(spectrum: Spectrum, target: TargetConfig) -> Spectrum:
    """The part of the file that the campaign uses."""
    if not target.align:
        for key in ("pre_edge_ev", "energy_range_ev"):
            if getattr(target, key) is not None:
                raise UserError(
                    f"target.{key} needs target.align", got="align: false", fix=f"set align or remove {key}"
                )
        return spectrum
    if target.energy_range_ev is not None:
        spectrum = spectrum.cut(*target.energy_range_ev)
    if target.pre_edge_ev is not None:
        spectrum.without_background(
            target.pre_edge_ev
        )  # the alignment subtracts it: here it must be possible
    return spectrum
