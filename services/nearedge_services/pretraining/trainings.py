"""The final trainings on everything that was labelled; each runs in a process of its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from nearedge_services.pretraining.frames import KEPT, before_networks, model_frames, networks, read_frames
from nearedge_services.pretraining.settings import PretrainingSettings

KINDS = ("prior", "potential", "surrogate")
"""The longest training first."""


def train_kind(kind: str, folder: Path, settings: PretrainingSettings) -> dict[str, float]:
    """Train one model, write it with its metrics to ``folder/models/<kind>``, and return the metrics."""
    import torch

    torch.set_num_threads(1)
    made = read_frames(folder, "network") if kind == "potential" else model_frames(folder, settings)
    frames = [atoms for atoms in made if seen(atoms, settings)]
    train, held_out = (prior_split if kind == "prior" else split)(frames, settings)
    given = settings.models.get(kind, {})
    target = folder / "models" / kind
    progress = _Progress(folder / f"{kind}.progress")
    if kind == "prior":
        model, metrics = _prior(train, held_out, given, settings.seed, progress)
    elif kind == "surrogate":
        made = [atoms for atoms in read_frames(folder, "generated") if seen(atoms, settings)]
        more, judged = split(made, settings)
        model, metrics = _surrogate([*train, *more], [*held_out, *judged], given, settings.seed, progress)
    else:
        more = read_frames(folder, *before_networks(settings.rounds))
        if settings.renews == "potential":  # no networks to judge by
            more, held_out = split(more, settings)
        model, metrics = _potential([*more, *train], held_out, given, settings.seed, progress)
    text = json.dumps(metrics, indent=1, sort_keys=True) + "\n"
    target.mkdir(parents=True, exist_ok=True)
    (target / "metrics.json").write_text(text, encoding="utf-8")
    model.save(target)  # last: its config says that the training is done
    return metrics


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


def _potential(
    train: list[Atoms], held_out: list[Atoms], given: dict[str, Any], seed: int, progress: _Progress
) -> tuple[Any, dict[str, float]]:
    from nearedge_services.potential.settings import PotentialSettings
    from nearedge_services.potential.training import train_potential

    return train_potential(train, held_out, PotentialSettings(**given), seed, progress=progress)
