"""To three models, from nothing or from earlier ones: networks, labels, trainings. Every finished piece is kept and
never made again.

Example:
    >>> pretrain(Path("pretrained"), PretrainingSettings(), workers=2, report=print)     # doctest: +SKIP
"""

import json
from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.inference.library import Library, joined, library_of, read_library, write_library
from nearedge_services.networks.weights import CONFIG_FILE
from nearedge_services.pretraining.frames import (
    KEPT,
    REFINED,
    before_networks,
    model_frames,
    networks,
    read_frames,
)
from nearedge_services.pretraining.jobs import (
    AnnealedNetworks,
    FirstNetwork,
    GeneratedStructures,
    HotFrames,
    Job,
    KeptNetworks,
    PotentialQuenches,
    RefinedStructures,
    oracle_of,
)
from nearedge_services.pretraining.parallel import Report, process_pool, run_jobs
from nearedge_services.pretraining.settings import Band, PretrainingSettings
from nearedge_services.pretraining.start import (
    START_FILE,
    START_LIBRARY,
    START_NETWORKS,
    check_start,
    copy_start,
    potential_folder,
    start_record,
)
from nearedge_services.pretraining.trainings import (
    KINDS,
    join_members,
    prior_split,
    seen,
    train,
    trainings,
)
from nearedge_services.refinement.settings import Anneal
from nearedge_services.structures.compact import read_networks, write_networks
from nearedge_services.structures.composition import density_g_cm3, parse_composition
from nearedge_services.structures.extxyz import write_structures
from nearedge_services.weights import LIBRARY_FILE, TRAINING_NETWORKS_FILE
from nearedge_services.weights.labels import PRETRAINING_FILE, LabelledBy

SETTINGS_FILE = "settings.json"
RECORD_FILE = PRETRAINING_FILE
NETWORKS_FILE = "networks.extxyz"


def pretrain(
    folder: Path, settings: PretrainingSettings, workers: int, report: Report, start: Path | None = None
) -> dict[str, Any]:
    """Make ``folder/models/{prior,surrogate,potential}`` and return the record, also in ``pretraining.json``.

    From nothing, or from the models in ``start``: with their potential and those of their training networks whose
    densities are not to be made anew, or with all of them but the potential. Continues what is in the folder.
    Raises UserError when that was made with other settings or from another start.
    """
    _claim(folder, settings, start)
    if start is None:
        _begin(folder, settings, workers, report)
    elif settings.renews == "potential":
        _potential_from_start(folder, settings, workers, report)
        return write_record(folder, settings)
    else:
        _networks_from_start(folder, settings, workers, report)
    run_jobs("generated", _generated(folder, settings), workers, report)
    _train(("surrogate",), folder, settings, workers, report)
    return write_record(folder, settings)


def _begin(folder: Path, settings: PretrainingSettings, workers: int, report: Report) -> None:
    """Potential, networks and prior from nothing."""
    frames = folder / "frames"
    run_jobs("first networks", _first(frames, settings), workers, report)
    run_jobs("hot frames", _hot(frames, settings), workers, report)
    _rounds(folder, settings, workers, report)
    potential = _quenching_potential(folder, settings.rounds, settings, report)
    run_jobs("networks", _networks(frames, settings, potential), workers, report)
    if settings.network_anneal is None:
        _train(("prior", "potential"), folder, settings, workers, report)
    else:
        _train(("potential",), folder, settings, workers, report)
        run_jobs("annealed", _annealed(folder, settings, settings.network_anneal), workers, report)
        _train(("prior",), folder, settings, workers, report)


def _rounds(folder: Path, settings: PretrainingSettings, workers: int, report: Report) -> None:
    """Quenches by potentials that have learnt from all before."""
    for number in range(1, settings.rounds + 1):
        potential = _quenching_potential(folder, number - 1, settings, report)
        run_jobs(f"round {number}", _round(folder / "frames", settings, number, potential), workers, report)


def _potential_from_start(folder: Path, settings: PretrainingSettings, workers: int, report: Report) -> None:
    """A potential that learns from the start's networks, from quenches that begin with the start's potential, and from
    structures of the start's prior that this potential refined.
    """
    run_jobs("kept networks", _kept(folder, settings), workers, report)
    _rounds(folder, settings, workers, report)
    run_jobs("refined", _refined(folder, settings), workers, report)
    _train(("potential",), folder, settings, workers, report)


def _networks_from_start(folder: Path, settings: PretrainingSettings, workers: int, report: Report) -> None:
    """Networks by the start's potential, beside those that are kept, and the prior."""
    run_jobs("kept networks", _kept(folder, settings), workers, report)
    potential = folder / "models" / "potential"
    run_jobs("networks", _networks(folder / "frames", settings, potential), workers, report)
    if settings.network_anneal is not None:
        run_jobs("annealed", _annealed(folder, settings, settings.network_anneal), workers, report)
    _train(("prior",), folder, settings, workers, report)


def _claim(folder: Path, settings: PretrainingSettings, start: Path | None) -> None:
    """Say whose folder this is. Raises UserError for a folder of other settings or from another start."""
    path = folder / SETTINGS_FILE
    text = settings.model_dump_json(indent=1) + "\n"
    if path.exists() or (folder / START_FILE).exists():
        check_start(folder, start)
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        models_aside = {"models"}
        now = json.loads(text)
        # of an earlier version: what was not there was as the defaults are
        before = {**PretrainingSettings().model_dump(mode="json"), **before}
        changed = sorted(k for k in now if k not in models_aside and before.get(k) != now[k])
        if changed:
            raise UserError(
                "this folder was made with other settings",
                got=", ".join(changed),
                fix="give another folder, or the same settings to continue",
            )
    elif start is not None:
        copy_start(start, folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _kept(folder: Path, settings: PretrainingSettings) -> list[Job]:
    """Training networks of the start at densities of the range that are not made anew."""
    file = folder / START_NETWORKS
    rows = [k for k, atoms in enumerate(read_networks(file)) if settings.kept(density_g_cm3(atoms))]
    return [
        KeptNetworks(
            folder / "frames" / f"{KEPT}-{first:03d}.extxyz",
            settings,
            file,
            tuple(rows[first : first + settings.batch]),
        )
        for first in range(0, len(rows), settings.batch)
    ]


def _first(frames: Path, settings: PretrainingSettings) -> list[Job]:
    densities = settings.densities(settings.first_networks, 0.0)
    return [
        FirstNetwork(frames / f"first-{k:03d}.extxyz", settings, density, settings.seed + 1000 + k)
        for k, density in enumerate(densities)
    ]


def _hot(frames: Path, settings: PretrainingSettings) -> list[Job]:
    densities = settings.densities(settings.hot_networks, 0.15)
    return [
        HotFrames(frames / f"hot-{k:03d}.extxyz", settings, density, settings.seed + 1500 + k)
        for k, density in enumerate(densities)
    ]


def _round(frames: Path, settings: PretrainingSettings, number: int, potential: Path) -> list[Job]:
    return _quenches(
        frames,
        settings,
        name=f"round{number}",
        potential=potential,
        count=settings.round_networks,
        first_seed=settings.seed + 1000 * (number + 1),
        offset=0.31 * number,
    )


def _networks(frames: Path, settings: PretrainingSettings, potential: Path) -> list[Job]:
    return _quenches(
        frames,
        settings,
        name="network",
        potential=potential,
        count=settings.networks,
        first_seed=settings.seed + 100_000,
        offset=0.5,
        band=settings.anew_g_cm3,
    )


def _annealed(folder: Path, settings: PretrainingSettings, anneal: Anneal) -> list[Job]:
    frames, potential = folder / "frames", folder / "models" / "potential"
    return [
        AnnealedNetworks(
            frames / f"annealed-{first:03d}.extxyz",
            settings,
            anneal,
            potential,
            frames / f"network-{first:03d}.extxyz",
        )
        for first in range(0, settings.networks, settings.batch)
    ]


def _generated(folder: Path, settings: PretrainingSettings) -> list[Job]:
    """Jobs of ``settings.batch`` structures each, in turn with few and many evaluations."""
    densities = settings.densities(settings.generated, 0.7)
    seeds = [settings.seed + 200_000 + k for k in range(settings.generated)]
    evaluations = settings.generated_evaluations
    return [
        GeneratedStructures(
            folder / "frames" / f"generated-{first:03d}.extxyz",
            settings,
            folder / "models" / "prior",
            tuple(densities[first : first + settings.batch]),
            tuple(seeds[first : first + settings.batch]),
            evaluations[number % len(evaluations)],
        )
        for number, first in enumerate(range(0, settings.generated, settings.batch))
    ]


def _refined(folder: Path, settings: PretrainingSettings) -> list[Job]:
    """Jobs of ``settings.batch`` structures each."""
    densities = settings.densities(settings.refined, 0.2)
    return [
        RefinedStructures(
            folder / "frames" / f"{REFINED}-{first:03d}.extxyz",
            settings,
            folder / "models" / "prior",
            potential_folder(folder, 0),
            tuple(densities[first : first + settings.batch]),
            tuple(
                settings.seed + 300_000 + k
                for k in range(first, min(first + settings.batch, settings.refined))
            ),
        )
        for first in range(0, settings.refined, settings.batch)
    ]


def _quenches(
    frames: Path,
    settings: PretrainingSettings,
    *,
    name: str,
    potential: Path,
    count: int,
    first_seed: int,
    offset: float,
    band: Band | None = None,
) -> list[Job]:
    """Jobs of ``settings.batch`` quenches each, at densities of this band (default: the whole range)."""
    final = name == "network"
    densities = settings.densities(count, offset, band)
    jobs: list[Job] = []
    for first in range(0, count, settings.batch):
        chosen = range(first, min(first + settings.batch, count))
        jobs.append(
            PotentialQuenches(
                frames / f"{name}-{first:03d}.extxyz",
                settings,
                settings.network_quench if final else settings.round_quench,
                potential,
                settings.network_atoms if final else settings.small_atoms,
                tuple(densities[k] for k in chosen),
                tuple(first_seed + k for k in chosen),
                name,
                final,
            )
        )
    return jobs


def _quenching_potential(folder: Path, number: int, settings: PretrainingSettings, report: Report) -> Path:
    """The potential after so many rounds, trained if it is not there."""
    from nearedge_services.potential.training import train_potential

    path = potential_folder(folder, number)
    if (path / CONFIG_FILE).exists():
        return path
    frames = read_frames(folder, *before_networks(number))
    held_out = set(sorted({atoms.info["group"] for atoms in frames})[:: settings.held_out_every])
    potential, metrics = train_potential(
        [atoms for atoms in frames if atoms.info["group"] not in held_out],
        [atoms for atoms in frames if atoms.info["group"] in held_out],
        settings.potential,
        settings.seed + number,
        progress=lambda share, _: report(f"potential {number}", round(100 * share), 100),
    )
    potential.save(path)
    (path / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    return path


def _train(
    kinds: Sequence[str], folder: Path, settings: PretrainingSettings, workers: int, report: Report
) -> None:
    """These models, side by side; those that are there stay."""
    left = [kind for kind in kinds if not (folder / "models" / kind / CONFIG_FILE).exists()]
    todo = [one for kind in left for one in trainings(kind, settings)]
    todo = [one for one in todo if not (one.folder(folder) / CONFIG_FILE).exists()]
    name = " and ".join(kinds)
    count = sum(len(trainings(kind, settings)) for kind in kinds)
    report(name, count - len(todo), count)
    if not left:
        return
    with process_pool(max(1, min(workers, len(todo)))) as pool:
        futures = [pool.submit(train, one, folder, settings) for one in todo]
        try:
            for done, future in enumerate(as_completed(futures), start=count - len(todo) + 1):
                future.result()
                report(name, done, count)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if "potential" in left:
            pool.submit(join_members, folder, settings).result()


def write_record(folder: Path, settings: PretrainingSettings) -> dict[str, Any]:
    """What was made of what, and how good it is: ``pretraining.json``.

    Beside the models: the networks that the prior learnt from, to tell whether it repeats them, and all labelled
    networks as a library for inference, with those of the start that were kept. Beside the record: these networks
    with their labels.
    """
    models = folder / "models"
    made = networks(model_frames(folder, settings))
    write_structures(folder / NETWORKS_FILE, made)
    if settings.renews == "networks":  # else those of the start are there, with its prior
        learnt, _ = prior_split([atoms for atoms in made if seen(atoms, settings)], settings)
        write_networks(models / TRAINING_NETWORKS_FILE, learnt)
        write_library(models / LIBRARY_FILE, _library(folder, made, settings))
    record = {
        "settings": settings.model_dump(mode="json"),
        **LabelledBy.of(oracle_of(settings)).as_record(),
        "metrics": {
            kind: json.loads((models / kind / "metrics.json").read_text(encoding="utf-8")) for kind in KINDS
        },
        "networks": len(made),
        "start": start_record(folder),
    }
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    (folder / RECORD_FILE).write_text(text, encoding="utf-8")
    return record


def _library(folder: Path, made: Sequence[Atoms], settings: PretrainingSettings) -> Library:
    """Of the networks made here, and of all that the start had at densities that were not made anew."""
    absorber = next(iter(parse_composition(settings.unit).counts))
    if start_record(folder) is None:
        return library_of(made, absorber)
    before = read_library(folder / START_LIBRARY)
    rows = [k for k, density in enumerate(before.densities_g_cm3) if settings.kept(density)]
    here = [atoms for atoms in made if settings.anew(float(atoms.info["density_g_cm3"]))]
    return joined(before.subset(rows), library_of(here, absorber))
