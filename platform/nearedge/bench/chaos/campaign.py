"""The campaigns of the bench: small networks of carbon, the shipped models, and a target of the same kind."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ase import Atoms

from nearedge.chance import stratified
from nearedge_db.hashing import structure_hash
from nearedge_services.oracles.seed import make_network
from nearedge_services.oracles.xtb import XtbOracle
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.extxyz import write_structures
from nearedge_services.structures.melt_quench import MeltQuenchSettings

COMPOSITION = "C16"
DENSITY_G_CM3 = (2.0, 3.2)
TARGET_G_CM3 = 2.9
MELT_QUENCH = MeltQuenchSettings(melt_steps=100, quench_steps=250, relax_steps=60)
LABEL_MINUTES = 0.15
"""After so long a label counts as hanging: ten times what one takes, for a machine that has other work too."""

ACTOR_CPUS = 0.4
CPUS = 2
"""What the five actors reserve together. Ray starts as many workers at once when a driver comes: more would be idle."""


@dataclass(frozen=True)
class Size:
    """How long a campaign is.

    Attributes:
        starting: structures to start from.
        baseline, guided: labels of unguided and of guided samples.
        first_strike: number of labels from which on processes are killed; not before the starting structures are
            labelled where there are few of them, or a driver that is killed ends the oracle that was to hang.
    """

    starting: int
    baseline: int
    guided: int
    first_strike: int = 2

    @property
    def labels(self) -> int:
        """All of them."""
        return self.starting + self.baseline + self.guided


@dataclass(frozen=True)
class Material:
    """What campaigns share: starting structures and target, in a folder of their own."""

    folder: Path
    starting: list[Atoms]

    @property
    def keys(self) -> list[str]:
        """Hashes of the starting structures."""
        return [structure_hash(one.numbers, one.positions, one.cell.array) for one in self.starting]


def make_material(folder: Path, size: Size, seed: int, report: Callable[[float], None]) -> Material:
    """Melt-quench the networks and the target's; ``report`` is given the share that is done."""
    folder.mkdir()
    composition = parse_composition(COMPOSITION)
    low, high = DENSITY_G_CM3
    places = stratified(size.starting, seed, "chaos density")
    starting = []
    for index, place in enumerate(places):
        density = round(low + (high - low) * place, 4)
        starting.append(make_network(composition, density, 1000 * seed + index, MELT_QUENCH))
        report((index + 1) / (size.starting + 1))
    write_structures(folder / "starting.extxyz", starting)
    truth = make_network(composition, TARGET_G_CM3, 1000 * seed + size.starting, MELT_QUENCH)
    label = XtbOracle().label(truth)
    lines = [
        f"{energy:.3f},{value:.8f}"
        for energy, value in zip(label.energies_ev, label.xanes.mean(axis=0), strict=True)
    ]
    (folder / "target.csv").write_text("\n".join(["energy_eV,intensity", *lines]) + "\n", encoding="utf-8")
    return Material(folder, starting)


def settings(
    name: str, folder: Path, material: Material, size: Size, address: str, seed: int
) -> dict[str, Any]:
    """The settings of one campaign, whose run directory is in ``folder``."""
    return {
        "name": name,
        "seed": seed,
        "dir": str(folder / "run"),
        "target": {"file": str(material.folder / "target.csv")},
        "material": {"composition": COMPOSITION, "density_g_cm3": list(DENSITY_G_CM3)},
        "seeds": {"file": str(material.folder / "starting.extxyz"), "held_out_fraction": 0.3},
        "models": {
            "retrain": {"surrogate": {"refine_steps": 10}, "potential": {"warm_steps": 5}},
            "retrain_every": {"surrogate": 3, "potential": 6},
        },
        "generation": {"batch": 2, "relax_steps": 10, "sampler": {"steps": 20}},
        "gate": {
            "max_energy_above_seeds_ev_per_atom": 5.0,
            "max_overcoordinated_fraction": 0.5,
        },
        "acquisition": {"selectivity": 2.0, "max_waiting": 8},
        "stop": {"labels": size.guided, "baseline_labels": size.baseline},
        "pools": {
            "generator": {"cpus": ACTOR_CPUS},
            "scorer": {"cpus": ACTOR_CPUS},
            "labeler": {"size": 2, "cpus": ACTOR_CPUS, "task_minutes": LABEL_MINUTES},
            "trainer": {"size": 1, "cpus": ACTOR_CPUS},
        },
        "ray": {"address": address},
    }


def write(name: str, folder: Path, material: Material, size: Size, address: str, seed: int) -> Path:
    """The settings file of a campaign in a new folder."""
    folder.mkdir()
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(settings(name, folder, material, size, address, seed)), encoding="utf-8")
    return path


def prolong(path: Path) -> None:
    """Let the campaign of this settings file find more labels: as many as two trainings of the potential need."""
    known = yaml.safe_load(path.read_text(encoding="utf-8"))
    known["stop"]["labels"] += 2 * known["models"]["retrain_every"]["potential"]
    path.write_text(yaml.safe_dump(known), encoding="utf-8")
