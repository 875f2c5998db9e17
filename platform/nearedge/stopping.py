"""The stopping rule: pure numbers in, a reason or None out."""

from dataclasses import dataclass

from nearedge.config import StopConfig


@dataclass(frozen=True)
class Standing:
    """Where a campaign is; distances in 1/eV."""

    guided_labels: int
    baseline_labels: int
    best_distance: float
    since_best: int
    minutes: float
    """Time spent on the campaign, earlier sessions included."""


def reason_to_stop(standing: Standing, stop: StopConfig) -> str | None:  # noqa: PLR0911 - one return a rule
    """Why no further label is wanted, or None."""
    if stop.wall_minutes is not None and standing.minutes >= stop.wall_minutes:
        return f"wall time: {standing.minutes:.1f} of {stop.wall_minutes:g} minutes"
    if standing.baseline_labels < stop.baseline:
        return None
    if standing.guided_labels >= stop.labels:
        return f"budget: {standing.guided_labels} labels spent"
    if standing.guided_labels == 0:
        return None
    if stop.tolerance_per_ev is not None and standing.best_distance <= stop.tolerance_per_ev:
        return f"tolerance met: {standing.best_distance:.3g} /eV, asked for {stop.tolerance_per_ev:.3g}"
    if stop.plateau_labels is not None and standing.since_best >= stop.plateau_labels:
        return f"plateau: {standing.since_best} labels without a better structure"
    return None
