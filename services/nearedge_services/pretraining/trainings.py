"""The final trainings on everything that was labelled; each runs in a process of its own, a potential's members too."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from nearedge_services.pretraining.frames import (
    KEPT,
    REFINED,
    before_networks,
    model_frames,
    networks,
    read_frames,
)
from nearedge_services.pretraining.settings import PretrainingSettings

if TYPE_CHECKING:
    from nearedge_services.potential.potential import Potential
    from nearedge_services.potential.settings import PotentialSettings

KINDS = ("prior", "potential", "surrogate")
"""The longest training first."""


@dataclass(frozen=True)
class Training:
    """A prior, a surrogate, or one member of a potential: what a process trains."""

    kind: str
    name: str
    """That of its folder."""
    member: int = 0
    """Number of a potential's member."""

    def folder(self, root: Path) -> Path:
        """Where it is written in the folder of a pretraining."""
        return root / self.name if self.kind == "potential" else root / "models" / self.name


def trainings(kind: str, settings: PretrainingSettings) -> list[Training]:
    """What a model is trained in: as a whole, or member by member.

    Members are named by their settings, too: those of other settings are not taken for them.
    """
    if kind != "potential":
        return [Training(kind, kind)]
    chosen = _potential_settings(settings)
    digest = sha256(f"{settings.seed} {chosen.model_dump_json(exclude={'members'})}".encode()).hexdigest()[:8]
    return [Training(kind, f"potential-{digest}-{k}", k) for k in range(chosen.members)]


def train(training: Training, root: Path, settings: PretrainingSettings) -> None:
    """Train, and write the model with its metrics."""
    import torch

    torch.set_num_threads(1)
    parts = _parts(training.kind, root, settings)
    progress = _Progress(root / f"{training.name}.progress")
    given = settings.models.get(training.kind, {})
    if training.kind == "prior":
        model, metrics = _prior(*parts, given, settings.seed, progress)
    elif training.kind == "surrogate":
        model, metrics = _surrogate(*parts, given, settings.seed, progress)
    else:
        model, metrics = _member(*parts, settings, training.member, progress)
    _write(training.folder(root), model, metrics)


def join_members(root: Path, settings: PretrainingSettings) -> None:
    """Write the potential of the members that were trained, with its metrics; without held-out frames it is judged by
    those of the training, as they were.
    """
    from nearedge_services.potential.dataset import labelled_frames
    from nearedge_services.potential.potential import Potential
    from nearedge_services.potential.training import committee

    folders = [one.folder(root) for one in trainings("potential", settings)]
    learnt_from, held_out = _parts("potential", root, settings)
    judged = held_out or labelled_frames(learnt_from, _potential_settings(settings).max_force_ev_per_a)
    joined, metrics = committee([Potential.load(folder) for folder in folders], judged)
    told = [json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in folders]
    losses = [one["train_loss"] for one in told]
    _write(root / "models" / "potential", joined, metrics | {"train_loss": sum(losses) / len(losses)})


def _write(target: Path, model: Any, metrics: dict[str, float]) -> None:
    text = json.dumps(metrics, indent=1, sort_keys=True) + "\n"
    target.mkdir(parents=True, exist_ok=True)
    (target / "metrics.json").write_text(text, encoding="utf-8")
    model.save(target)  # last: its config says that the training is done


def _parts(kind: str, root: Path, settings: PretrainingSettings) -> tuple[list[Atoms], list[Atoms]]:
    """Frames that a model learns from, and frames that judge it."""
    if kind == "potential":
        more = read_frames(root, *before_networks(settings.rounds), REFINED)
        if settings.renews == "potential":  # no networks to judge by
            return split(more, settings)
        train, held_out = split([a for a in read_frames(root, "network") if seen(a, settings)], settings)
        return [*more, *train], held_out
    frames = [atoms for atoms in model_frames(root, settings) if seen(atoms, settings)]
    if kind == "prior":
        return prior_split(frames, settings)
    train, held_out = split(frames, settings)
    more, judged = split([a for a in read_frames(root, "generated") if seen(a, settings)], settings)
    return [*train, *more], [*held_out, *judged]


def seen(atoms: Atoms, settings: PretrainingSettings) -> bool:
    """Whether prior and surrogate may learn from this frame."""
    return not settings.left_out(float(atoms.info["density_g_cm3"]))


def split(frames: Sequence[Atoms], settings: PretrainingSettings) -> tuple[list[Atoms], list[Atoms]]:
    """Training and held-out frames: whole groups, evenly spread over the densities."""
    density = {str(atoms.info["group"]): float(atoms.info["density_g_cm3"]) for atoms in frames}
    ordered = sorted(density, key=lambda group: (density[group], group))
    chosen = set(ordered[settings.held_out_every // 2 :: settings.held_out_every])
    train = [atoms for atoms in frames if str(atoms.info["group"]) not in chosen]
    return train, [atoms for atoms in frames if str(atoms.info["group"]) in chosen]


def prior_split(frames: Sequence[Atoms], settings: PretrainingSettings) -> tuple[list[Atoms], list[Atoms]]:
    """Networks that the prior learns from, and networks that judge it. Those that a start's prior learnt from are all
    learnt from again: they were chosen from more, of which others judged.
    """
    kept = [atoms for atoms in networks(frames) if str(atoms.info["group"]).startswith(KEPT)]
    made = [atoms for atoms in networks(frames) if not str(atoms.info["group"]).startswith(KEPT)]
    train, held_out = split(made, settings)
    return [*kept, *train], held_out


class _Progress:
    """Writes how far a training is into a small file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, share: float, values: dict[str, Any]) -> None:
        """Replace the file's text."""
        losses = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.path.write_text(f"{100 * share:.1f} % {losses}\n", encoding="utf-8")


def _prior(
    train: list[Atoms], held_out: list[Atoms], given: dict[str, Any], seed: int, progress: _Progress
) -> tuple[Any, dict[str, float]]:
    from nearedge_services.diffusion.settings import PriorSettings
    from nearedge_services.diffusion.training import train_prior

    return train_prior(train, held_out, PriorSettings(**given), seed, progress=progress)


def _surrogate(
    train: list[Atoms], held_out: list[Atoms], given: dict[str, Any], seed: int, progress: _Progress
) -> tuple[Any, dict[str, float]]:
    from nearedge_services.surrogate.settings import SurrogateSettings
    from nearedge_services.surrogate.training import train_surrogate

    return train_surrogate(train, held_out, SurrogateSettings(**given), seed, progress=progress)


def _potential_settings(settings: PretrainingSettings) -> "PotentialSettings":
    from nearedge_services.potential.settings import PotentialSettings

    return PotentialSettings(**settings.models.get("potential", {}))


def _member(
    train: list[Atoms],
    held_out: list[Atoms],
    settings: PretrainingSettings,
    number: int,
    progress: "_Progress",
) -> tuple["Potential", dict[str, float]]:
    from nearedge_services.potential.training import train_potential

    chosen = _potential_settings(settings).model_copy(update={"members": 1})
    return train_potential(train, held_out, chosen, settings.seed, first_member=number, progress=progress)
