"""A bench result as JSON, with what is needed to judge and repeat it."""

import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nearedge.bench.base import BenchOptions, BenchResult

PACKAGES = ("nearedge", "torch", "numpy", "scipy", "ase", "vesin", "mace-torch", "tblite", "matscipy")


def document(result: BenchResult, options: BenchOptions, seconds: float) -> dict[str, Any]:
    """Everything about one run, JSON-able; NaN and infinity become null."""
    judged = [row.passed for row in result.rows if row.passed is not None]
    whole = {
        "bench": result.name,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "seed": options.seed,
        "options": asdict(options),
        "passed": all(judged) if judged else None,
        "rows": [asdict(row) for row in result.rows],
        "data": result.data,
        "machine": machine(),
        "versions": versions(),
    }
    plain: dict[str, Any] = _plain(whole)
    return plain


def write_document(path: Path, whole: Mapping[str, Any]) -> None:
    """Write `whole` as JSON; the file appears complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    temporary.replace(path)


def machine() -> dict[str, Any]:
    """Processor, cores, memory and system."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results; those that are not installed are left
    out.
    """
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain(value: Any) -> Any:
    """`value` in JSON's own types. Raises TypeError for what has no place in JSON."""
    import numpy as np

    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
