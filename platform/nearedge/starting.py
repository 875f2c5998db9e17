"""The models a campaign starts from: those that come with the program or a folder's, where they fit."""

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from nearedge.config import MODEL_KINDS, CampaignConfig
from nearedge_agents.kinds import make_kind
from nearedge_agents.sizes import fixed_settings
from nearedge_db.errors import UserError
from nearedge_services.networks.weights import CONFIG_FILE, WEIGHTS_FILE, load_config
from nearedge_services.oracles.base import Oracle
from nearedge_services.weights import shipped
from nearedge_services.weights.labels import LABELS_FILE, LabelledBy, labelled_by

REFINING: dict[str, dict[str, Any]] = {
    "prior": {"steps": 300, "warm_learning_rate": 2e-4},
    "surrogate": {"refine_steps": 100, "refine_learning_rate": 3e-4},
    "potential": {"warm_steps": 100, "warm_learning_rate": 1e-3},
}
"""Settings of the retraining of models that a campaign started from, unless the campaign's own say otherwise.

They know far more structures than the campaign has: many or large steps make them forget. The intervals are
calibrated anew either way."""


@dataclass(frozen=True)
class StartingModel:
    """One model to start from; ``origin`` is ``shipped`` or the folder that was named."""

    folder: Path
    origin: str
    weights: str
    """Hash of its files: ``sha256:`` and 16 hexadecimal digits."""

    def copy_to(self, folder: Path) -> None:
        """Put a copy where the campaign keeps its models: later the original may change or go."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS_FILE, CONFIG_FILE):
            shutil.copyfile(self.folder / name, folder / name)


@dataclass(frozen=True)
class Start:
    """Per kind the model to start from, or why it is trained from nothing."""

    models: dict[str, StartingModel] = field(default_factory=dict)
    from_nothing: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What is started from and why not, for people."""
        said: dict[str, list[str]] = {}
        for kind, model in self.models.items():
            said.setdefault(f"starting from {model.origin}", []).append(f"{kind} {model.weights}")
        for kind, why in self.from_nothing.items():
            said.setdefault(f"trained from nothing, {why}", []).append(kind)
        return [f"{what}: {', '.join(which)}" for what, which in said.items()]


def choose_start(config: CampaignConfig, elements: Iterable[str], absorber: str, oracle: Oracle) -> Start:
    """What ``models.start`` gives this campaign.

    Raises UserError for a folder that is not there or has a model that does not fit, and for a damaged model.
    """
    campaign = _Campaign(config, sorted(set(elements)), absorber, oracle)
    if config.models.start == "nothing":
        return Start(from_nothing=dict.fromkeys(MODEL_KINDS, "models.start is nothing"))
    if config.models.start == "shipped":
        return _shipped(campaign)
    return _named(campaign, config.models.start)


@dataclass(frozen=True)
class _Campaign:
    """What a model must fit."""

    config: CampaignConfig
    elements: list[str]
    absorber: str
    oracle: Oracle

    def misfit(self, kind: str, folder: Path) -> str | None:
        """Why the model cannot be started from; None where it can. Raises UserError when it is damaged."""
        config = load_config(folder)
        if config.get("kind") != kind:
            return f"its folder holds a {config.get('kind')}"
        elements = _elements_of(config)
        if elements != self.elements:
            return f"it knows {'-'.join(elements)}, the material is {'-'.join(self.elements)}"
        return (
            self._other_labels(kind, folder) or self._other_spectra(kind, config) or self._sizes(kind, folder)
        )

    def _other_labels(self, kind: str, folder: Path) -> str | None:
        if kind == "prior":
            return None  # it learns positions alone
        known, own = labelled_by(folder.parent), LabelledBy.of(self.oracle)
        if known == own:
            return None
        if known is None:
            return f"nothing says which oracle labelled its training data ({LABELS_FILE} beside it would)"
        if known.name != own.name:
            return f"its training data were labelled by {known.name}, the campaign's oracle is {own.name}"
        return f"its training data were labelled by {known.name} with other settings"

    def _other_spectra(self, kind: str, config: dict[str, Any]) -> str | None:
        if kind != "surrogate":
            return None
        if self.absorber not in config.get("absorbers", []):
            return f"it has no spectra of {self.absorber}"
        return None if config.get("grid") == asdict(self.oracle.grid) else "its spectra are on other energies"

    def _sizes(self, kind: str, folder: Path) -> str | None:
        """Sizes that the settings ask for are not sizes the weights can be given."""
        given = getattr(self.config.models, kind)
        fixed = fixed_settings(kind, folder)
        wanted = make_kind(kind).settings.model_validate(given)
        other = [key for key in given if key in fixed and getattr(wanted, key) != fixed[key]]
        return f"models.{kind} asks for another {', '.join(other)}" if other else None


def _elements_of(config: dict[str, Any]) -> list[str]:
    """Chemical symbols that a model of any kind knows, sorted."""
    known = config.get("elements") or config.get("architecture", {}).get("elements", [])
    return sorted(one if isinstance(one, str) else chemical_symbols[one] for one in known)


def _shipped(campaign: _Campaign) -> Start:
    start = Start()
    for kind in MODEL_KINDS:
        folder = shipped(kind, campaign.elements)
        why: str | None = f"none comes with the program for {'-'.join(campaign.elements)}"
        if folder is not None:
            why = campaign.misfit(kind, folder)
        if folder is None or why is not None:
            start.from_nothing[kind] = f"{'' if folder is None else 'the shipped one does not fit: '}{why}"
        else:
            start.models[kind] = StartingModel(folder, "shipped", _identity(folder))
    return start


def _named(campaign: _Campaign, where: Path) -> Start:
    """The models of a folder that the settings name: those that are there must fit."""
    start = Start()
    for kind in MODEL_KINDS:
        folder = where / kind
        if not (folder / CONFIG_FILE).is_file():
            start.from_nothing[kind] = f"{where} has none"
            continue
        why = campaign.misfit(kind, folder)
        if why is not None:
            raise UserError(
                f"the {kind} of models.start does not fit the campaign",
                got=f"{folder}: {why}",
                fix="name other models, or leave models.start out, or set it to nothing",
            )
        make_kind(kind).load(folder)
        start.models[kind] = StartingModel(folder, str(where), _identity(folder))
    if not start.models:
        raise UserError(
            "there are no models in models.start",
            got=where,
            fix="give a folder with prior/, surrogate/ or potential/, or shipped, or nothing",
        )
    return start


def _identity(folder: Path) -> str:
    from nearedge.generation.models import weights_identity

    return weights_identity(folder)
