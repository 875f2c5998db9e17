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
from nearedge.config import MODEL_KINDS, CampaignConfig
from nearedge_agents.kinds import make_kind
from nearedge_db.errors import UserError
from nearedge_services.oracles.base import Oracle
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.spectra.reading import read_spectrum
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.structures.bond_order import ELEMENTS
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.extxyz import read_structures

MIN_OVERLAP_EV = 5.0


@dataclass(frozen=True)
class Checked:
    """What the checks produced on the way: nothing here was expensive."""

    config: CampaignConfig
    absorber: str
    spectrum: Spectrum
    target: Target | None
    """None until the spectrum is aligned with the starting structures."""
    oracle: Oracle
    starting: list[Atoms]
    """The user's own starting structures, if any."""


def check(config: CampaignConfig) -> Checked:
    """Check everything but the database. Raises UserError, one line, for the first thing that is wrong."""
    check_writable(config.run_dir)
    spectrum = read_spectrum(config.target.file)
    composition = parse_composition(config.material.composition)
    generated = parse_composition(config.generated_composition)
    elements = set(composition.counts)
    if set(generated.counts) != elements:
        raise UserError(
            "generation.composition has other elements than material.composition",
            got=f"{sorted(generated.counts)} and {sorted(elements)}",
            fix="use the same elements in both",
        )
    absorber = config.target.absorber or next(iter(composition.counts))
    if absorber not in elements:
        raise UserError(
            "target.absorber is not in the material", got=absorber, fix=f"choose one of {sorted(elements)}"
        )
    if absorber in ("H", "He"):
        raise UserError(
            "target.absorber has no K-edge into p states", got=absorber, fix="choose a heavier element"
        )
    oracle = make_oracle(config.oracle.name, dict(config.oracle.settings))
    oracle.check_elements(np.array([atomic_numbers[symbol] for symbol in sorted(elements)]))
    make_policy(config.acquisition.policy)
    check_model_settings(config)
    check_room(config)
    starting = _starting_structures(config, elements)
    target = (
        None
        if config.target.align
        else Target.from_spectrum(spectrum, oracle.grid, absorber, config.target.window_ev)
    )
    return Checked(config, absorber, _usable(spectrum, config), target, oracle, starting)


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
    """Refuse a local Ray too small for the pools: their actors would wait for ever."""
    wanted = sum(pool.size * pool.cpus for pool in config.pools.values())
    if config.ray.address is None and config.ray.num_cpus is not None and config.ray.num_cpus < wanted:
        raise UserError(
            "ray.num_cpus has no room for the pools",
            got=f"{config.ray.num_cpus} for {wanted:g} CPUs",
            fix="raise it, leave it out, or lower `size` or `cpus` of the pools",
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


def _starting_structures(config: CampaignConfig, elements: set[str]) -> list[Atoms]:
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
        strange = sorted(set(atoms.get_chemical_symbols()) - elements)
        if strange:
            raise UserError(
                f"starting structure {index} of {config.seeds.file} has an element the material has not",
                got=", ".join(strange),
                fix="add it to material.composition or remove the structure",
            )
        if not atoms.pbc.all():
            raise UserError(
                f"starting structure {index} of {config.seeds.file} is not periodic in three directions",
                got=f"pbc {atoms.pbc.tolist()}",
                fix="give it a cell and pbc='T T T'",
            )
    if len(structures) < 4:
        raise UserError(
            "too few starting structures to train on", got=len(structures), fix="give at least 4, better 20"
        )
    if len({group_of(atoms, index) for index, atoms in enumerate(structures)}) < 2:
        raise UserError(
            "all starting structures are of one group, so none can be held out to judge the models",
            got=f"{len(structures)} structures in {config.seeds.file}",
            fix="give structures of at least two networks, or remove `group`",
        )
    return structures


def _usable(spectrum: Spectrum, config: CampaignConfig) -> Spectrum:
    """The part of the file that the campaign uses; long enough to be aligned."""
    if not config.target.align:
        for key in ("pre_edge_ev", "energy_range_ev"):
            if getattr(config.target, key) is not None:
                raise UserError(
                    f"target.{key} needs target.align", got="align: false", fix=f"set align or remove {key}"
                )
        return spectrum
    if config.target.pre_edge_ev is not None:
        spectrum.without_background(config.target.pre_edge_ev)
    if config.target.energy_range_ev is not None:
        spectrum = spectrum.cut(*config.target.energy_range_ev)
    length = float(spectrum.energies_ev[-1] - spectrum.energies_ev[0])
    if length < MIN_OVERLAP_EV:
        raise UserError(
            "the spectrum is too short to be aligned",
            got=f"{length:.1f} eV",
            fix=f"at least {MIN_OVERLAP_EV} eV",
        )
    return spectrum
