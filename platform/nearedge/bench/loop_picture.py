"""The picture of the bench ``loop``."""

from pathlib import Path
from typing import Any

import numpy as np

from nearedge.bench.base import BenchResult
from nearedge.report.style import ACCENT, GUIDED, MUTED, SEED, UNGUIDED


def draw(result: BenchResult, path: Path) -> None:
    """Cost by stage, memory against candidates, working labelers against time, and latencies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    _cost(axes[0, 0], dict(result.data["cost"]))
    _memory(axes[0, 1], np.asarray(result.data["memory"], dtype=float))
    campaign = dict(result.data["campaign"])
    _busy(axes[1, 0], campaign)
    _latency(axes[1, 1], campaign)
    figure.suptitle("The loop: what it costs, what it keeps, how busy it keeps the labelers")
    figure.savefig(path, dpi=130)


def _cost(axis: Any, cost: dict[str, Any]) -> None:
    stages = sorted(cost["stages"].items(), key=lambda item: item[1])
    axis.barh([name for name, _ in stages], [ms for _, ms in stages], color=GUIDED)
    axis.set(xlabel="ms of processor time per label task")
    axis.set_title(f"driver: {cost['driver_cpu_ms']:.1f} ms per label task (steering is part of the others)")


def _memory(axis: Any, samples: Any) -> None:
    axis.plot(samples[:, 0], samples[:, 1], color=GUIDED)
    axis.set(xlabel="candidates", ylabel="resident memory (MiB)", ylim=(0, None), title="driver")


def _busy(axis: Any, campaign: dict[str, Any]) -> None:
    times, working = np.asarray(campaign["busy"], dtype=float).T
    axis.step(times / 3600, working, where="post", color=SEED, lw=0.8)
    axis.axvline(campaign["models_at_s"] / 3600, color=ACCENT, label="models are there")
    axis.set(xlabel="time (h)", ylabel="labelers with work", ylim=(0, None))
    axis.set_title(f"{campaign['since_models']['labeler']:.1%} since the models were there")
    axis.legend(loc="lower right")


def _latency(axis: Any, campaign: dict[str, Any]) -> None:
    axis.hist(np.asarray(campaign["latencies_s"], dtype=float) / 60, bins=30, color=UNGUIDED)
    for key in ("p50_s", "p95_s"):
        if campaign["latency"][key] is not None:
            axis.axvline(campaign["latency"][key] / 60, color=MUTED)
    axis.set(xlabel="label to first use (min)", ylabel="labels", title="median and 95 % marked")
