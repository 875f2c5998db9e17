"""Everything the report shows, read from the database in one snapshot."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from nearedge.labelled import Labelled, by_distance, of_role, read_groups, read_labelled
from nearedge.summary import CampaignSummary, require_campaign, summarise_labelled
from nearedge_db.database import Database
from nearedge_db.schema import Campaign, LabelRow, OracleSettings, Structure
from nearedge_db.states import LabelRole, StructureOrigin
from nearedge_db.store import get_structure, to_atoms

if TYPE_CHECKING:
    from ase import Atoms

Array = npt.NDArray[np.float64]

BEST_SHOWN = 5

LIKE_DENSITY = 0.05
"""Densities that differ by less than this share of their mean count as alike."""

LEAST_PAIRS = 5
"""Pairs of like density from which a typical distance may be taken."""

PACKAGES = (
    "nearedge",
    "torch",
    "ray",
    "mlflow",
    "optuna",
    "ase",
    "mace-torch",
    "tblite",
    "numpy",
    "sqlalchemy",
)


@dataclass(frozen=True)
class TargetView:
    """The target on the oracle's grid: energies (G,) eV, intensity (G,) 1/eV, window (G,) bool."""

    energies_ev: Array
    intensity: Array
    mask: npt.NDArray[np.bool_]

    @property
    def window_ev(self) -> tuple[float, float]:
        """First and last energy of the window, eV."""
        inside = self.energies_ev[self.mask]
        return float(inside[0]), float(inside[-1])

    @property
    def narrowed(self) -> bool:
        """Whether the window is only a part of the grid."""
        return not bool(self.mask.all())

    def normalised(self, spectra: Array) -> Array:
        """Spectra (…, G) divided by their area over the window."""
        inside = spectra[..., self.mask]
        areas = np.asarray(np.trapezoid(inside, self.energies_ev[self.mask], axis=-1))
        return spectra / areas[..., None]


@dataclass(frozen=True)
class Curve:
    """The cell-mean spectrum of one labelled structure, (G,) 1/eV, area-normalised over the window."""

    of: Labelled
    intensity: Array


@dataclass(frozen=True)
class LikeSpread:
    """Distance between the spectra of independent starting structures of like density."""

    median: float | None
    """1/eV; None with fewer than `LEAST_PAIRS` pairs."""
    pairs: int


@dataclass(frozen=True)
class Provenance:
    """What is needed to get the same again."""

    seed: int
    absorber: str
    oracle: str | None
    settings_hash: str | None
    settings: dict[str, Any]
    config: dict[str, Any]
    config_hash: str
    mlflow_experiment: str | None
    packages: dict[str, str]
    """Versions installed where the report is written."""


@dataclass(frozen=True)
class ReportData:
    """Contents of the report; parts that do not exist yet are None or empty."""

    summary: CampaignSummary
    labelled: list[Labelled]
    target: TargetView | None
    best: list[Curve]
    """The best guided structures, the best first."""
    best_seed: Curve | None
    best_atoms: "Atoms | None"
    seed_spread: float | None
    """Median distance between two starting structures' spectra, 1/eV, frames on their way left out."""
    like_spread: "LikeSpread"
    """The same for independent starting structures of like density."""
    alignment: dict[str, Any] | None
    history: tuple[str, ...]
    """What was done to the target's spectrum, in order."""
    provenance: Provenance

    def role(self, role: LabelRole) -> list[Labelled]:
        """Labelled structures of one role with a distance, in order."""
        return of_role(self.labelled, role)

    def inferred_range(self, name: str) -> tuple[float, ...]:
        """The 90 % interval of what the spectrum alone says of a property; empty where it says nothing that counts."""
        interval = self.summary.inferred.properties.get(name) if self.summary.inferred.known else None
        return () if interval is None else (interval.low, interval.high)


def read_report(database: Database, campaign_name: str) -> ReportData:
    """Read a campaign for its report. Raises UserError when the database has none of that name."""
    with database.session() as session:
        campaign = require_campaign(session, campaign_name)
        labelled = read_labelled(session, campaign_name)
        target = _target(campaign)
        guided = by_distance(of_role(labelled, LabelRole.GUIDED))
        seeds = by_distance(of_role(labelled, LabelRole.SEED))
        finals = [one for one in seeds if one.origin != StructureOrigin.SEED_PATH.value]
        curves = _curves(session, campaign.absorber, target, finals)
        best = _curves(session, campaign.absorber, target, guided[:BEST_SHOWN])
        best_seed = _curves(session, campaign.absorber, target, seeds[:1])
        shown = (guided or seeds)[:1]
        return ReportData(
            summary=summarise_labelled(session, campaign, labelled, database.now(session)),
            labelled=labelled,
            target=target,
            best=best,
            best_seed=best_seed[0] if best_seed else None,
            best_atoms=to_atoms(get_structure(session, shown[0].structure_id)) if shown else None,
            seed_spread=_spread(target, curves),
            like_spread=like_spread(target, curves, read_groups(session, campaign.id)),
            alignment=(campaign.alignment_json or {}).get("alignment"),
            history=tuple((campaign.alignment_json or {}).get("history") or ()),
            provenance=_provenance(session, campaign, labelled),
        )


def _target(campaign: Campaign) -> TargetView | None:
    energies, intensity, mask = (
        campaign.target_energies_ev,
        campaign.target_intensity,
        campaign.target_mask,
    )
    if energies is None or intensity is None or mask is None:
        return None
    view = TargetView(energies, intensity, mask.astype(bool))
    return TargetView(energies, view.normalised(intensity), view.mask)


def _curves(
    session: Session, absorber: str, target: TargetView | None, labelled: list[Labelled]
) -> list[Curve]:
    from ase.data import atomic_numbers

    if target is None:
        return []
    curves = []
    for one in labelled:
        label, structure = (
            session.get_one(LabelRow, one.label_id),
            session.get_one(Structure, one.structure_id),
        )
        rows = label.xanes[structure.numbers == atomic_numbers[absorber]]
        mean = rows.astype(float).mean(axis=0)
        curves.append(Curve(one, target.normalised(np.interp(target.energies_ev, label.energies_ev, mean))))
    return curves


def _spread(target: TargetView | None, curves: list[Curve]) -> float | None:
    if target is None or len(curves) < 2:
        return None
    return float(np.median([_between(target, a, b) for a, b in combinations(curves, 2)]))


def like_spread(target: TargetView | None, curves: list[Curve], groups: dict[int, str]) -> LikeSpread:
    """Median distance between curves of like density; frames of one group (by structure id) are not independent."""
    if target is None:
        return LikeSpread(None, 0)
    found = [
        _between(target, a, b)
        for a, b in combinations(curves, 2)
        if groups[a.of.structure_id] != groups[b.of.structure_id]
        and abs(a.of.density_g_cm3 - b.of.density_g_cm3)
        < LIKE_DENSITY * (a.of.density_g_cm3 + b.of.density_g_cm3) / 2
    ]
    return LikeSpread(float(np.median(found)) if len(found) >= LEAST_PAIRS else None, len(found))


def _between(target: TargetView, a: Curve, b: Curve) -> float:
    """Root mean square difference over the window, 1/eV."""
    return float(np.sqrt(np.mean((a.intensity - b.intensity)[target.mask] ** 2)))


def _provenance(session: Session, campaign: Campaign, labelled: list[Labelled]) -> Provenance:
    settings = session.get(OracleSettings, labelled[0].settings_hash) if labelled else None
    return Provenance(
        seed=campaign.seed,
        absorber=campaign.absorber,
        oracle=settings.oracle if settings else None,
        settings_hash=settings.settings_hash if settings else None,
        settings=settings.settings_json if settings else {},
        config=campaign.config_json,
        config_hash=campaign.config_hash,
        mlflow_experiment=campaign.mlflow_experiment,
        packages=_installed(),
    )


def _installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
