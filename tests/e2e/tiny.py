"""The smallest campaign that goes through every stage, and how to run it as a user does."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from tests.platform.campaign_files import write_target

SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "target": {"file": "target.csv"},
    "material": {"composition": "C8", "density_g_cm3": [2.0, 3.2]},
    "seeds": {
        "count": 5,
        "held_out_fraction": 0.3,
        "settings": {
            "relax_steps": 2,
            "path_frames": 1,
            "rattle_a": [0.1],
            "melt_quench": {"melt_steps": 60, "quench_steps": 150, "relax_steps": 40},
        },
    },
    "models": {
        "start": "nothing",
        "prior": {"steps": 20, "n_scalar": 16, "n_vector": 6, "n_layers": 2},
        "surrogate": {
            "members": 2,
            "steps": 20,
            "refine_steps": 5,
            "channels": 16,
            "vectors": 4,
            "components": 4,
        },
        "potential": {"members": 1, "steps": 10, "warm_steps": 3, "channels": 4},
        "retrain_every": {"surrogate": 2},
    },
    "generation": {"batch": 2, "relax_steps": 2, "sampler": {"steps": 20}},
    "gate": {
        "min_contact": 0.6,
        "max_energy_above_seeds_ev_per_atom": 50.0,
        "max_overcoordinated_fraction": 1.0,
    },
    "acquisition": {"selectivity": 1.0, "max_waiting": 4},
    "stop": {"labels": 3, "baseline_labels": 1},
    "pools": {"trainer": {"size": 1}},
}
"""Networks and trainings far too small to be of use: what is tested is how the parts work together."""


def write_campaign(folder: Path, **sections: Any) -> Path:
    """``folder/tiny.yaml`` with its target beside it; ``sections`` replace whole sections."""
    folder.mkdir(parents=True, exist_ok=True)
    write_target(folder / "target.csv")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, **sections}), encoding="utf-8")
    return path


def nearedge(*arguments: str, cwd: Path, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
    """Run the program and wait for it."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def command(*arguments: str) -> list[str]:
    """The program beside this interpreter."""
    return [str(Path(sys.executable).with_name("nearedge")), *arguments]


def environment() -> dict[str, str]:
    """One thread for everything, as the Makefile sets it."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def rows(folder: Path, query: str) -> list[tuple]:
    """What a query says about the campaign run in ``folder``."""
    with sqlite3.connect(folder / "runs" / "tiny" / "nearedge.db", timeout=30) as connection:
        return connection.execute(query).fetchall()


def status(folder: Path) -> dict[str, Any]:
    """``nearedge status tiny --json``."""
    result = nearedge("status", "tiny", "--json", cwd=folder)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
