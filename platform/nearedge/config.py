"""The campaign's settings: one YAML file, checked before anything expensive starts."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from nearedge.fidelity import ConfirmConfig, OracleConfig, spelt_out
from nearedge.pools import PoolConfig, PoolName, default_pools
from nearedge.section import Section
from nearedge.site import fill_in_servers, runs_folder
from nearedge_db.errors import UserError

ModelName = Literal["prior", "surrogate", "potential"]
MODEL_KINDS: tuple[ModelName, ...] = ("prior", "surrogate", "potential")

MAX_SEED = 2**31 - 1
MAX_DENSITY_G_CM3 = 30.0
"""Above every element's: osmium has 22.6 g/cm³."""

ALIGNMENT_WINDOW_END_EV = 20.0
"""Where the window of an experiment ends unless the settings say otherwise.

Far above the edge theory and experiment differ most and a long smooth tail lets the shift slide: a window to 28 eV
has put the whole π* peak of a carbon film outside of it."""


S = TypeVar("S", bound=Section)


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= pair[1]:
        raise ValueError(f"must be [low, high] with low <= high, not {list(pair)}")
    return pair


def _density(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1] <= MAX_DENSITY_G_CM3:
        raise ValueError(f"must be above 0 and at most {MAX_DENSITY_G_CM3:g} g/cm³, not {list(pair)}")
    return pair


def _strength(pair: tuple[float, float]) -> tuple[float, float]:
    if not (pair[0] >= 0 and pair[1] > 0):
        raise ValueError(f"must be [low, high] with low >= 0 and high > 0, not {list(pair)}")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
DensityRange = Annotated[Range, AfterValidator(_density)]
StrengthRange = Annotated[Range, AfterValidator(_strength)]


class TargetConfig(Section):
    """The spectrum to explain."""

    file: Path
    """Two-column text, CSV, XDI or Athena columns; energies in eV. Relative to the folder of the settings file."""
    absorber: str | None = None
    """Chemical symbol of the absorbing element; default: the first element of the composition."""
    window_ev: Range | None = None
    """Energies compared, in eV on the oracle's axis; default: what spectrum and oracle share; with ``align`` the
    oracle's grid up to 20 eV."""
    align: bool = False
    """Find one rigid shift and scale against the starting structures: for a measured, absolute energy axis."""
    pre_edge_ev: Range | None = None
    """With ``align``: range of the file's own axis whose mean is subtracted as background."""
    energy_range_ev: Range | None = None
    """With ``align``: part of the file's own axis that is used."""


class MaterialConfig(Section):
    """What is looked for."""

    composition: str = "C32"
    """Formula of one cell, such as ``C64`` or ``Si16C16``."""
    density_g_cm3: DensityRange = (1.6, 3.4)
    """Range of densities searched, in g/cm³."""


class SeedsConfig(Section):
    """Starting structures: the first training data."""

    count: int = Field(24, ge=4)
    file: Path | None = None
    """Own starting structures (extxyz) instead of the built-in melt-quench; labelled by the oracle as they are."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the melt-quench and of the relaxation with the oracle's method (SeedSettings)."""
    held_out_fraction: float = Field(0.17, gt=0, lt=0.5)
    """Share of the starting networks kept out of training, to judge models."""


def _default_retraining() -> dict[ModelName, int]:
    return {"surrogate": 12, "potential": 24}


class ModelsConfig(Section):
    """Settings of the three models, each checked by the model's own settings class."""

    start: Literal["shipped", "nothing"] | Path = "shipped"
    """Where the first models come from: the program's own where they fit, a training from ``nothing``, or a folder
    with ``prior/``, ``surrogate/`` and ``potential/``, relative to the folder of the settings file."""
    prior: dict[str, Any] = Field(default_factory=dict)
    surrogate: dict[str, Any] = Field(default_factory=dict)
    potential: dict[str, Any] = Field(default_factory=dict)
    retrain: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Per model, what differs from the above when it is retrained in the loop (fewer steps from warm weights)."""
    retrain_every: dict[ModelName, Annotated[int, Field(ge=1)]] = Field(default_factory=_default_retraining)
    """Per model, after how many new labels it is retrained; a model that is not named stays as it is."""


class GenerationConfig(Section):
    """How candidates are made; Optuna chooses within the ranges."""

    composition: str | None = None
    """Formula of a generated cell; default: the material's."""
    batch: int = Field(4, ge=1)
    """Structures per request."""
    guidance_scale: StrengthRange = (1.0, 30.0)
    """Strength of the guidance while sampling, searched by Optuna."""
    relax_steps: int = Field(60, ge=0)
    """Relaxation steps on the potential before scoring."""
    spectral_weight_ev: StrengthRange = (0.5, 4.0)
    """Weight (eV per unit of mismatch) of the spectral mismatch in the relaxation of guided candidates, searched."""
    sampler: dict[str, Any] = Field(default_factory=dict)
    """Settings of the sampler (SamplerSettings)."""


class GateConfig(Section):
    """What a candidate must fulfil to be worth a label."""

    min_contact: float = Field(0.75, gt=0)
    """Shortest contact over the sum of covalent radii (0.75 × 1.52 Å = 1.14 Å for carbon)."""
    max_energy_above_seeds_ev_per_atom: float = Field(0.6, gt=0)
    """Predicted energy above the starting structures of similar density."""
    max_overcoordinated_fraction: float = Field(0.05, ge=0, le=1)
    """Share of atoms with more than four neighbours."""
    novelty: float | None = Field(None, ge=0)
    """Least fingerprint distance to every labelled structure; default: the measured threshold."""


class AcquisitionConfig(Section):
    """Which candidate gets the next label."""

    policy: str = "expected_improvement"
    selectivity: float = Field(3.0, ge=1)
    """Scored candidates per label: how choosy the campaign is."""
    max_waiting: int = Field(24, ge=1)
    """Scored candidates kept; the least useful beyond it are dropped."""


class StopConfig(Section):
    """When the campaign ends; whichever comes first."""

    labels: int = Field(45, ge=3)
    """Labels for guided candidates."""
    baseline_labels: int | None = Field(None, ge=0)
    """Labels for unguided samples; default: a third of ``labels``, rounded up."""
    tolerance_per_ev: float | None = Field(None, gt=0)
    """Met when the best spectral distance of a guided candidate, by the oracle, is at most this."""
    plateau_labels: int | None = Field(None, ge=1)
    """Stop when this many labels in a row brought no better structure."""
    wall_minutes: float | None = Field(None, gt=0)
    fruitless_generations: int = Field(25, ge=1)
    """The campaign fails when so many batches in a row have no candidate that passes the gate."""

    @property
    def baseline(self) -> int:
        """Number of unguided samples that are labelled."""
        return -(-self.labels // 3) if self.baseline_labels is None else self.baseline_labels


class RayConfig(Section):
    """Where the actors run."""

    address: str | None = None
    """Address of a running cluster, or ``auto``; default: ``RAY_ADDRESS``, which a submitted job has; else, or with
    ``local``, one of the campaign's own, started and stopped with it."""
    num_cpus: int | None = Field(None, ge=1)


class CampaignConfig(Section):
    """Everything a campaign is told."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    seed: int = Field(0, ge=0, le=MAX_SEED)
    target: TargetConfig
    material: MaterialConfig = MaterialConfig()
    seeds: SeedsConfig = SeedsConfig()
    oracle: OracleConfig = OracleConfig()
    confirm: ConfirmConfig | None = None
    """The second method that checks what the first one found; without it nothing is checked."""
    models: ModelsConfig = ModelsConfig()
    generation: GenerationConfig = GenerationConfig()
    gate: GateConfig = GateConfig()
    acquisition: AcquisitionConfig = AcquisitionConfig()
    stop: StopConfig = StopConfig()
    pools: dict[PoolName, PoolConfig] = Field(default_factory=default_pools)
    ray: RayConfig = RayConfig()
    dir: Path | None = None
    """Run directory; default ``<name>`` in ``NEAREDGE_RUNS``, or in ``runs`` under the working directory."""
    database: str | None = None
    """SQLAlchemy URL; default: ``NEAREDGE_DATABASE``, else SQLite in the run directory."""
    mlflow: str | None = None
    """MLflow tracking URI; default: ``NEAREDGE_MLFLOW``, else SQLite in the run directory."""

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, data: Any) -> Any:
        return spelt_out(data) if isinstance(data, dict) else data

    @model_validator(mode="before")
    @classmethod
    def _fill_pools(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("pools"), dict):
            filled: dict[str, Any] = {name: pool.model_dump() for name, pool in default_pools().items()}
            for name, given in data["pools"].items():
                filled[name] = {**filled.get(name, {}), **given} if isinstance(given, dict) else given
            data = {**data, "pools": filled}
        return data

    @property
    def run_dir(self) -> Path:
        """Where the campaign keeps its database, MLflow store, report and logs."""
        return self.dir or runs_folder() / self.name

    @property
    def generated_composition(self) -> str:
        """Formula of a generated cell."""
        return self.generation.composition or self.material.composition


def load_config(path: Path, overrides: list[str] | None = None) -> CampaignConfig:
    """Read and check a settings file; ``overrides`` are ``key.sub=value`` strings with YAML values.

    Raises UserError that names the first wrong key, what was given and how to mend it.
    """
    data = _read_yaml(path)
    fill_in_servers(data)
    for override in overrides or []:
        _set(data, override)
    try:
        config = CampaignConfig.model_validate(data)
    except ValidationError as error:
        raise _explain(error, path) from None
    rooted = {
        "target": _rooted(config.target, path, "file"),
        "seeds": _rooted(config.seeds, path, "file"),
        "models": _rooted(config.models, path, "start"),
    }
    return config.model_copy(update=rooted)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise UserError(
            "no such settings file", got=path, fix="give the path of a campaign YAML file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "cannot read the settings file", got=f"{path} ({error})", fix="check the path"
        ) from None
    except _RepeatedKeyError as error:
        raise UserError(
            "a key is given twice", got=f"{path}: {error.problem}", fix="keep one of them"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(
            "the settings file is not YAML", got=f"{path}: {error}", fix="mend that line"
        ) from None
    if not isinstance(data, dict):
        raise UserError(
            "the settings file must be a mapping", got=type(data).__name__, fix="see examples/quickstart.yaml"
        )
    return data


class _RepeatedKeyError(yaml.MarkedYAMLError):
    """A mapping has a key twice."""


class _Loader(yaml.SafeLoader):
    """Takes no mapping that has a key twice: YAML forbids it, and the first would be lost without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    before = lines[key.value]
                    raise _RepeatedKeyError(
                        problem=f"{key.value!r} in line {line}, and before in line {before}"
                    )
                lines[key.value] = line
        return node


def _set(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not re.fullmatch(r"[\w.]+", key):
        raise UserError("--set wants key=value", got=override, fix="for example --set stop.labels=20")
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise UserError(
                "--set names a key inside a plain value", got=override, fix=f"{parent!r} has no sub-keys"
            )
    try:
        data[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError("--set value is not YAML", got=override, fix="quote the value") from None


def _explain(error: ValidationError, path: Path) -> UserError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "(top level)"
    if first["type"] == "extra_forbidden" or first["loc"][-1:] == ("[key]",):
        key = key.removesuffix(".[key]")
        return UserError(
            f"unknown key {key!r} in {path}", got=repr(first["input"]), fix="check the spelling or remove it"
        )
    if first["type"] == "missing":
        return UserError(f"key {key!r} is missing in {path}", fix=f"add {key}")
    return UserError(f"bad value for {key!r} in {path}", got=repr(first["input"]), fix=first["msg"])


def _rooted(section: S, path: Path, key: str) -> S:
    """The section with its path ``key``, if it is one, taken from the folder of the settings file."""
    given = getattr(section, key)
    if not isinstance(given, Path) or given.is_absolute():
        return section
    return section.model_copy(update={key: path.parent / given})
