"""Settings files of campaigns that never run, for the tests of the settings and the checks."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

ENERGIES_EV = np.arange(-2.0, 28.01, 0.25)


def intensity(energies: np.ndarray = ENERGIES_EV) -> np.ndarray:
    """An edge-like spectrum: two peaks, no negative value."""
    return np.exp(-0.5 * ((energies - 2.0) / 1.2) ** 2) + np.exp(-0.5 * ((energies - 11.0) / 4.0) ** 2)


def write_target(path: Path, energies: np.ndarray = ENERGIES_EV, values: np.ndarray | None = None) -> Path:
    """A two-column CSV file."""
    values = intensity(energies) if values is None else values
    rows = "".join(f"{energy},{value}\n" for energy, value in zip(energies, values, strict=True))
    path.write_text("energy_eV,intensity\n" + rows, encoding="utf-8")
    return path


def write_config(folder: Path, **sections: Any) -> Path:
    """``folder/campaign.yaml``, complete and valid unless ``sections`` make it otherwise, and its target."""
    write_target(folder / "target.csv")
    data = {"name": "checked", "target": {"file": "target.csv"}, "dir": str(folder / "run"), **sections}
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path
