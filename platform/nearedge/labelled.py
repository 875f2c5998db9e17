"""The labelled structures of a campaign, and what their distances say.

Distances are oracle-computed spectral distances to the campaign's target, in 1/eV.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import median

import numpy as np
import numpy.typing as npt
from sqlalchemy import column, select, table
from sqlalchemy.orm import Session

from nearedge_db.schema import CampaignStructure
from nearedge_db.states import LabelRole

BEST_COUNT = 10
"""How many of the best guided structures the recovered properties are taken from."""

LEAST_RANGE = 0.2
"""Least width of an axis of a property (g/cm³, or share of the atoms): scatter must not look like a trend."""

LEAST_DISTANCE_SCALE = 1e-4
"""Lower bound, 1/eV, of the distance that sets the weights: a perfect match must not take all the weight."""

LIKE_STARTS = 3
"""So many starting structures, those nearest in density, are what a structure's energy is compared with."""

LIKE_DENSITY_G_CM3 = 0.4
"""Farther from it in density they are not alike: then there is no comparison."""

PROPERTY_TITLES = {
    "density_g_cm3": "density (g/cm³)",
    "cn2_fraction": "2-fold share",
    "cn3_fraction": "3-fold share",
    "cn4_fraction": "4-fold share",
}
PROPERTIES = tuple(PROPERTY_TITLES)
"""Structural properties that a campaign recovers; columns of ``discovered_structures``."""


@dataclass(frozen=True)
class Labelled:
    """A labelled structure of one campaign: columns of the view ``discovered_structures``."""

    structure_id: int
    label_id: int
    role: str
    origin: str | None
    sequence: int
    spectral_distance: float | None
    energy_per_atom_ev: float
    formula: str
    n_atoms: int
    density_g_cm3: float
    cn2_fraction: float | None
    cn3_fraction: float | None
    cn4_fraction: float | None
    predicted_distance: float | None
    spectral_distance_std: float | None
    shortest_contact_a: float | None
    oracle: str
    settings_hash: str
    prior_version: int | None
    surrogate_version: int | None
    potential_version: int | None
    seed: int | None


def read_labelled(session: Session, campaign: str) -> list[Labelled]:
    """Every labelled structure of a campaign in the order of labelling, other oracles' checks left out."""
    names = [field.name for field in fields(Labelled)]
    view = table("discovered_structures", column("campaign"), *(column(name) for name in names))
    query = (
        select(*(view.c[name] for name in names))
        .where(view.c.campaign == campaign, view.c.role != LabelRole.CONFIRM.value)
        .order_by(view.c.sequence)
    )
    return [Labelled(*row) for row in session.execute(query)]


def read_groups(session: Session, campaign_id: int) -> dict[int, str]:
    """Structure -> name of the network that it is a frame of."""
    query = select(CampaignStructure.structure_id, CampaignStructure.group_name).where(
        CampaignStructure.campaign_id == campaign_id
    )
    return dict(session.execute(query).tuples().all())


def of_role(labelled: Iterable[Labelled], role: LabelRole) -> list[Labelled]:
    """Those of one role that have a distance, in the order given."""
    return [one for one in labelled if one.role == role.value and one.spectral_distance is not None]


def distances(labelled: Iterable[Labelled]) -> npt.NDArray[np.float64]:
    """The known distances, shape (K,), 1/eV."""
    known = [one.spectral_distance for one in labelled if one.spectral_distance is not None]
    return np.array(known, dtype=float)


def by_distance(labelled: Iterable[Labelled]) -> list[Labelled]:
    """The best first."""
    known = (one for one in labelled if one.spectral_distance is not None)
    return sorted(known, key=lambda one: (one.spectral_distance, one.sequence))


def late(guided: Sequence[Labelled]) -> list[Labelled]:
    """The last third of the guided labels, rounded up."""
    return list(guided[len(guided) - -(-len(guided) // 3) :])


def median_distance(labelled: Iterable[Labelled]) -> float | None:
    """Median distance in 1/eV; None without labels."""
    values = distances(labelled)
    return float(median(values)) if values.size else None


def best_distance(labelled: Iterable[Labelled]) -> float | None:
    """Smallest distance in 1/eV; None without labels."""
    values = distances(labelled)
    return float(values.min()) if values.size else None


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Their quotient; None when one is missing or the denominator is zero."""
    return None if numerator is None or not denominator else numerator / denominator


@dataclass(frozen=True)
class Recovered:
    """One property of the best structures: weighted mean, standard deviation and 68 % interval."""

    mean: float
    spread: float
    low: float
    """16th weighted percentile."""
    high: float
    """84th weighted percentile."""
    structures: int
    """How many structures it is taken from."""


def recover(guided: Iterable[Labelled], count: int = BEST_COUNT) -> dict[str, Recovered]:
    """What the ``count`` best guided structures have in common; properties that are not known are left out.

    Structure i of distance dᵢ weighs exp(−½ (dᵢ/d₀)²) with d₀ the best distance: what the best structure
    misses is taken as the scale on which distances cannot be told apart.
    """
    best = by_distance(guided)[:count]
    if not best:
        return {}
    values = distances(best)
    weights = np.exp(-0.5 * (values / max(values[0], LEAST_DISTANCE_SCALE)) ** 2)
    found = {}
    for name in PROPERTIES:
        known = np.array([getattr(one, name) is not None for one in best])
        if known.any() and weights[known].sum() > 0:
            numbers = np.array([getattr(one, name) for one in best if getattr(one, name) is not None], float)
            found[name] = _weighted(numbers, weights[known])
    return found


def _weighted(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> Recovered:
    shares = weights / weights.sum()
    mean = float(shares @ values)
    order = np.argsort(values, kind="stable")
    # Each value stands at the middle of its own share of the weight (Hazen's plotting position).
    position = np.cumsum(shares[order]) - shares[order] / 2
    low, high = np.interp([0.16, 0.84], position, values[order])
    spread = float(np.sqrt(shares @ (values - mean) ** 2))
    return Recovered(mean, spread, float(low), float(high), len(values))


def energy_above_starts(one: Labelled, starts: Iterable[Labelled]) -> float | None:
    """Energy, eV/atom, above the median of the starting structures of like density; None where there are too few."""
    apart = [(abs(start.density_g_cm3 - one.density_g_cm3), start.energy_per_atom_ev) for start in starts]
    near = sorted(pair for pair in apart if pair[0] <= LIKE_DENSITY_G_CM3)[:LIKE_STARTS]
    return None if len(near) < LIKE_STARTS else one.energy_per_atom_ev - median(pair[1] for pair in near)


def property_range(
    labelled: Iterable[Labelled], name: str, also: Sequence[float] = ()
) -> tuple[float, float] | None:
    """Axis limits that show a property of all structures, and ``also`` these values; None when there are none."""
    known = [*also, *(getattr(one, name) for one in labelled if getattr(one, name) is not None)]
    if not known:
        return None
    middle = (min(known) + max(known)) / 2
    half = max(0.55 * (max(known) - min(known)), LEAST_RANGE / 2)
    return middle - half, middle + half
