"""The final trainings on everything that was labelled; each runs in a process of its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from nearedge_services.pretraining.frames import model_frames, networks, read_frames
from nearedge_services.pretraining.settings import PretrainingSettings

KINDS = ("prior", "potential", "surrogate")
ANNEALING = "annealing-potential"
"""The potential that anneals the networks; the final one goes on from it."""


def model_folder(folder: Path, kind: str) -> Path:
    """Where a pretraining keeps a model."""
    return folder / kind if kind == ANNEALING else folder / "models" / kind


def train_kind(kind: str, folder: Path, settings: PretrainingSettings) -> dict[str, float]:
    """Train one model, write it with its metrics to ``folder/models/<kind>``, and return the metrics."""
    import torch

    torch.set_num_threads(1)
    train, held_out = parts(model_frames(folder, settings), settings)
    given = settings.models.get("potential" if kind == ANNEALING else kind, {})
    target = model_folder(folder, kind)
    progress = _Progress(folder / f"{kind}.progress")
    if kind == "prior":
        model, metrics = _prior(networks(train), networks(held_out), given, settings.seed, progress)
    elif kind == "surrogate":
        more, judged = parts(read_frames(folder, "generated"), settings)
        model, metrics = _surrogate([*train, *more], [*held_out, *judged], given, settings.seed, progress)
    else:
        model, metrics = _potential(folder, kind, settings, given, progress)
    text = json.dumps(metrics, indent=1, sort_keys=True) + "\n"
    target.mkdir(parents=True, exist_ok=True)
    (target / "metrics.json").write_text(text, encoding="utf-8")
    model.save(target)  # last: its config says that the training is done
    return metrics


def calibrate_prior(folder: Path, settings: PretrainingSettings) -> None:
    """Find out how much noise the prior in ``folder/models`` bears by the potential's energies, and save it so."""
    from nearedge_services.diffusion.churn import calibrated
    from nearedge_services.diffusion.prior import Prior
    from nearedge_services.diffusion.sampler import sample
    from nearedge_services.diffusion.settings import SamplerSettings
    from nearedge_services.potential.potential import Potential

    prior = Prior.load(folder / "models" / "prior")
    potential = Potential.load(folder / "models" / "potential")
    train, _ = parts(networks(model_frames(folder, settings)), settings)

    def energies(structures: Sequence[Atoms]) -> list[float]:
        outputs = potential.evaluate(structures, members=1)
        return [float(out.energies.mean()) / len(a) for out, a in zip(outputs, structures, strict=True)]

    def draw(cells: Sequence[Atoms], amplitude: float) -> list[Atoms]:
        seeds = [settings.seed + 300_000 + k for k in range(len(cells))]
        return sample(prior, cells, SamplerSettings(churn_noise=amplitude), seeds)

    prior.churn_noise = calibrated(train, energies, draw, settings.calibration)
    prior.save(folder / "models" / "prior")


def seen(atoms: Atoms, settings: PretrainingSettings) -> bool:
    """Whether prior and surrogate may learn from this frame."""
    return not settings.left_out(float(atoms.info["density_g_cm3"]))


def parts(frames: Sequence[Atoms], settings: PretrainingSettings) -> tuple[list[Atoms], list[Atoms]]:
    """`split` of those frames that may be seen."""
    return split([atoms for atoms in frames if seen(atoms, settings)], settings)


def split(frames: Sequence[Atoms], settings: PretrainingSettings) -> tuple[list[Atoms], list[Atoms]]:
    """Training and held-out frames: whole groups, evenly spread over the densities."""
    density = {str(atoms.info["group"]): float(atoms.info["density_g_cm3"]) for atoms in frames}
    ordered = sorted(density, key=lambda group: (density[group], group))
    chosen = set(ordered[settings.held_out_every // 2 :: settings.held_out_every])
    train = [atoms for atoms in frames if str(atoms.info["group"]) not in chosen]
    return train, [atoms for atoms in frames if str(atoms.info["group"]) in chosen]


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
    folder: Path, kind: str, settings: PretrainingSettings, given: dict[str, Any], progress: _Progress
) -> tuple[Any, dict[str, float]]:
    """The potential that anneals, from all labels there are then; or the final one, which goes on from it.

    What it did not know when it annealed, and what the prior makes, shows where it is wrong about the energies.
    """
    from nearedge_services.potential.potential import Potential
    from nearedge_services.potential.settings import PotentialSettings
    from nearedge_services.potential.training import train_potential

    initial = None if kind == ANNEALING else Potential.load(model_folder(folder, ANNEALING))
    stages = ("network",) if initial is None else ("network", "annealed", "generated")
    halves = [parts(read_frames(folder, stage), settings) for stage in stages]
    train = read_frames(folder, "first", "hot", *(f"round{k + 1}" for k in range(settings.rounds)))
    return train_potential(
        [*train, *(atoms for part, _ in halves for atoms in part)],
        [atoms for _, part in halves for atoms in part],
        PotentialSettings(**given),
        settings.seed,
        initial=initial,
        progress=progress,
    )
