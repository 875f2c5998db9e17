"""How far theory and experiment agree, in plain words; shown for a measured target that was aligned."""

from typing import Any

from nearedge.report.data import ReportData
from nearedge.status import distance

WITHIN, NEAR = 1.0, 2.0
"""Best distance over that of two independent networks of like density: up to `WITHIN` nothing tells the experiment from
such a network, beyond `NEAR` it is another thing."""

FITTED = (
    "Shift and scale were fitted to the starting structures, so part of the agreement is by construction; instrument "
    "broadening, background and the oracle's approximations all count as distance."
)


def agreement(data: ReportData) -> list[str]:
    """How far theory and experiment agree; empty when the target was given on the oracle's own axis."""
    record = data.alignment
    if not record:
        return []
    sentences = [_adjusted(data, record), *_residual(record)]
    best = data.summary.best_distance
    if best is None:
        return [*sentences, "How well a guided structure does cannot be said yet."]
    return [*sentences, _scale(data, best), _verdict(data, best), FITTED]


def steps(data: ReportData) -> str | None:
    """Everything that was done to the measured spectrum, in order; None where nothing is recorded."""
    if not data.history:
        return None
    return "What was done to the target, in order: " + "; ".join(data.history) + "."


def _adjusted(data: ReportData, record: dict[str, Any]) -> str:
    """Shift and scale with their numbers, and whatever else the settings changed."""
    shift, (low, high) = record["shift_ev"], record["shift_range_ev"]
    target = data.provenance.config.get("target") or {}
    others = []
    if target.get("energy_range_ev"):
        others.append("only {:g} to {:g} eV of the file were used".format(*target["energy_range_ev"]))
    if target.get("pre_edge_ev"):
        others.append(
            "the mean of {:g} to {:g} eV was subtracted as background".format(*target["pre_edge_ev"])
        )
    else:
        others.append("no background was subtracted")
    return (
        f"The zero of the theory's energies, the Fermi level, was laid at {shift:.2f} eV of the experiment's "
        f"({low:.2f} to {high:.2f} eV are about as good): that much was subtracted from every measured energy. "
        f"The measured intensity was multiplied by {record['scale']:.3g} to have unit area, as theory's has. "
        f"Besides, {' and '.join(others)}."
    )


def _residual(record: dict[str, Any]) -> list[str]:
    spread, residual = record.get("theory_spread"), record.get("residual")
    if residual is None or not spread:
        return []
    return [
        "After that, the starting structures nearest to the experiment still miss it by "
        f"{distance(residual)} × 10⁻³ per eV; two starting structures of any density typically differ by "
        f"{distance(spread)} from each other."
    ]


def _scale(data: ReportData, best: float) -> str:
    """The best distance against that of two independent networks of one density."""
    found = f"The best structure found misses the experiment by {distance(best)} × 10⁻³ per eV."
    like = data.like_spread
    if like.median is None:
        return (
            f"{found} This campaign has only {like.pairs} pairs of independent starting structures of like density: "
            "too few to say how much two networks of the same density differ."
        )
    return (
        f"{found} That is {best / like.median:.1f} times what two independent starting structures of like density "
        f"typically differ by ({distance(like.median)}, median of {like.pairs} pairs)."
    )


def _verdict(data: ReportData, best: float) -> str:
    unguided = _no_better_than(data, best)
    if unguided is not None:
        return (
            f"{unguided} was as near or nearer without any guidance: the search gained nothing, so no structure "
            "found may be said to account for the experiment. Do not read the recovered properties as a measurement."
        )
    like = data.like_spread.median
    if like is None:
        return (
            "Whether the structure explains the experiment cannot be said without that scale. Read the recovered "
            "properties as tendencies."
        )
    if best <= WITHIN * like:
        return (
            "That is no more than independent networks of one density differ by: as far as this theory can tell, "
            "the structure explains the experiment as well as another network of its kind would."
        )
    if best <= NEAR * like:
        return (
            "That is more than independent networks of one density differ by, but not by much: the main features are "
            "there, and something is left that no structure found accounts for. Read the recovered properties as "
            "tendencies."
        )
    return (
        "That is far more than independent networks of one density differ by: no structure found accounts for the "
        "experiment, and much of the remaining difference may be the theory's error, background or the wrong "
        "material. Do not read the recovered properties as a measurement."
    )


def _no_better_than(data: ReportData, best: float) -> str | None:
    """What was there without guidance and is as near as the best guided structure."""
    summary = data.summary
    rivals = {
        "The best starting structure": summary.best_seed_distance,
        "The best unguided structure": summary.best_unguided_distance,
    }
    beaten = [
        f"{name} ({distance(value)})" for name, value in rivals.items() if value is not None and best >= value
    ]
    return beaten[0] if beaten else None
