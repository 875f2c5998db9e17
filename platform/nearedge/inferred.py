"""What the target's spectrum alone says about density and coordination: the check on what the best structures have.

The best structures were bent to the target, so that they have its spectrum does not make them right. Networks that
nobody bent say, by simulation-based inference, which density and coordination go with such a spectrum: those that come
with the program where they fit, else the campaign's starting structures. They are not mixed: on fourteen independent
networks of known density neither the small, fast-quenched starting structures nor the unguided samples of a young
prior made the answers of the shipped ones better. Guided structures have no part in it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy.orm import Session

from nearedge.labelled import PROPERTIES, Labelled, Recovered, of_role, read_groups
from nearedge_db.errors import UserError, one_line
from nearedge_db.schema import Campaign, LabelRow, Structure
from nearedge_db.states import LabelRole, StructureOrigin

if TYPE_CHECKING:
    from nearedge_services.inference.library import Library
    from nearedge_services.inference.posterior import Interval, Posterior
    from nearedge_services.spectra.grid import EnergyGrid

LEAST_NETWORKS = 10
"""Networks below which no interval is given: the regression would rest on a handful of differences."""

TYPICAL = 0.01
"""Least typicality of a spectrum that the library knows."""

CONFIDENCE = 0.9


@dataclass(frozen=True)
class Inferred:
    """Posterior of density and shares, or why there is none."""

    properties: "dict[str, Interval]" = field(default_factory=dict)
    """Median and central 90 % interval, by the names in `nearedge.labelled.PROPERTIES`; shares are of all atoms."""
    typicality: float | None = None
    """Probability that a network of the library's kind has a spectrum less likely than the target's."""
    networks: int = 0
    """Networks that it is inferred from, or that are too few."""
    shipped: bool = False
    """Whether they come with the program; otherwise they are starting structures of the campaign."""
    misfit: str | None = None
    """Why the library that comes with the program is not used."""
    refusal: str | None = None
    """Why there is no posterior."""

    @property
    def known(self) -> bool:
        """Whether the library knows such spectra: otherwise the intervals mean little."""
        return self.typicality is not None and self.typicality >= TYPICAL

    def outside(self, recovered: dict[str, Recovered]) -> list[str]:
        """Properties in which the best structures lie outside the interval, to the two digits that are shown.

        Empty where the library does not know such spectra.
        """
        if not self.known:
            return []
        return [
            name
            for name, interval in self.properties.items()
            if name in recovered
            and not round(interval.low, 2) <= round(recovered[name].mean, 2) <= round(interval.high, 2)
        ]

    def to_json(self, recovered: dict[str, Recovered]) -> dict[str, Any]:
        """Plain numbers and texts; ``best_outside`` are the properties in which the best structures disagree."""
        return {
            "properties": {name: asdict(interval) for name, interval in self.properties.items()},
            "confidence": CONFIDENCE,
            "typicality": self.typicality,
            "known": self.known,
            "networks": self.networks,
            "source": "shipped" if self.shipped else "starting structures",
            "shipped_not_used": self.misfit,
            "refusal": self.refusal,
            "best_outside": self.outside(recovered),
        }


def infer(session: Session, campaign: Campaign, labelled: Sequence[Labelled]) -> Inferred:
    """What the campaign's target says by itself; a refusal where there is no target or too little to learn from.

    Library and target are compared in the target's window alone, both with unit area there.
    """
    from nearedge_services.spectra.distance import area_normalised

    intensity, mask = campaign.target_intensity, campaign.target_mask
    if campaign.target_energies_ev is None or intensity is None or mask is None:
        return Inferred(refusal="there is no target on the oracle's energies yet")
    starting = independent_starts(labelled, read_groups(session, campaign.id))
    if not starting:
        return Inferred(refusal="no starting structure is labelled yet")
    grid = _grid(campaign.target_energies_ev)
    shipped, misfit = shipped_library_for(starting[0], grid)
    library = _own_library(session, starting, campaign, grid) if shipped is None else shipped
    found = Inferred(networks=len(library), shipped=shipped is not None, misfit=misfit)
    inside = library.in_window(mask.astype(bool))
    target = area_normalised(np.asarray(intensity, dtype=float)[mask.astype(bool)], inside.grid.weights)
    try:
        return _answer(found, inside, target, campaign.seed)
    except UserError as error:
        return replace(found, refusal=one_line(error))


def independent_starts(labelled: Sequence[Labelled], groups: dict[int, str]) -> list[Labelled]:
    """One starting structure of each network, the last frame, of those whose coordination is known."""
    last: dict[str, Labelled] = {}
    for one in of_role(labelled, LabelRole.SEED):
        known = all(getattr(one, name) is not None for name in PROPERTIES)
        if known and one.origin != StructureOrigin.SEED_PATH.value:
            last[groups.get(one.structure_id, f"structure-{one.structure_id}")] = one
    return list(last.values())


def shipped_library_for(one: Labelled, grid: "EnergyGrid") -> "tuple[Library | None, str | None]":
    """The library that comes with the program for structures like this one, or why it does not fit."""
    from nearedge_services.inference.library import read_library
    from nearedge_services.structures.composition import parse_composition
    from nearedge_services.weights import shipped_library
    from nearedge_services.weights.labels import LabelledBy, labelled_by

    elements = sorted(parse_composition(one.formula).counts)
    # With one element there is one absorber, and its shares are those of all atoms.
    path = shipped_library(elements) if len(elements) == 1 else None
    if path is None:
        return None, f"none comes with the program for {'-'.join(elements)}"
    known = labelled_by(path.parent)
    if known is None:
        return None, "nothing says which oracle labelled the one that comes with the program"
    if known != LabelledBy(one.oracle, one.settings_hash):
        how = f"by {known.name}" if known.name != one.oracle else "with other settings"
        return None, f"the one that comes with the program was labelled {how}"
    library = read_library(path)
    if library.grid.size != grid.size or not np.allclose(library.grid.energies, grid.energies):
        return None, "the spectra of the one that comes with the program are on other energies"
    return library, None


def _grid(energies_ev: np.ndarray) -> "EnergyGrid":
    from nearedge_services.spectra.grid import EnergyGrid

    first, last = float(energies_ev[0]), float(energies_ev[-1])
    return EnergyGrid(first, last, (last - first) / (len(energies_ev) - 1))


def _own_library(
    session: Session, starting: Sequence[Labelled], campaign: Campaign, grid: "EnergyGrid"
) -> "Library":
    """The starting structures with the cell-mean spectra of the campaign's absorber."""
    from nearedge_services.inference.library import Library
    from nearedge_services.spectra.distance import cell_mean

    spectra = []
    for one in starting:
        label = session.get_one(LabelRow, one.label_id)
        numbers = session.get_one(Structure, one.structure_id).numbers
        spectra.append(cell_mean(label.xanes, numbers, campaign.absorber, grid))
    _, *shares = PROPERTIES
    return Library(
        grid=grid,
        spectra=np.array(spectra),
        densities_g_cm3=np.array([one.density_g_cm3 for one in starting]),
        shares=np.array([[getattr(one, name) for name in shares] for one in starting], dtype=float),
        groups=tuple(f"start-{one.structure_id}" for one in starting),
    )


def _answer(found: Inferred, library: "Library", target: np.ndarray, seed: int) -> Inferred:
    """The posterior from a library and a target on its grid (G,). Raises UserError for a library without variety."""
    from nearedge_services.inference.posterior import SpectrumInference
    from nearedge_services.inference.tuning import tuned
    from nearedge_services.inference.typicality import typicalities

    if len(library) < LEAST_NETWORKS:
        why = f"too few networks, {len(library)} starting structures where {LEAST_NETWORKS} are needed"
        return replace(found, refusal=why)
    inference = SpectrumInference(library, tuned(library))
    posterior = inference.posterior(target, seed)
    typicality = float(typicalities(inference, target[None])[0])
    return replace(found, properties=_intervals(posterior), typicality=typicality)


def _intervals(posterior: "Posterior") -> "dict[str, Interval]":
    from nearedge_services.inference.library import SHARES

    density, *shares = PROPERTIES
    intervals = {density: posterior.density(CONFIDENCE)}
    for name, neighbours in zip(shares, SHARES, strict=True):
        intervals[name] = posterior.share(neighbours, CONFIDENCE)
    return intervals
