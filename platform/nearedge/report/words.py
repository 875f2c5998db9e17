"""The report in plain words: what was asked, what was found, how far theory and experiment agree."""

from pathlib import Path
from typing import Any

from nearedge.report.data import ReportData
from nearedge.status import distance
from nearedge_db.states import CampaignState, LabelRole

NEAR, FAR = 0.5, 1.0
"""Best distance over the typical one between theory spectra: up to `NEAR` agrees, beyond `FAR` does not.

The starting structures span all densities, so a random one of them is already about 1 away from another."""


def asked(data: ReportData) -> str:
    """The question in one sentence."""
    config = data.provenance.config
    material, target = config.get("material") or {}, config.get("target") or {}
    generated = (config.get("generation") or {}).get("composition")
    composition = generated or material.get("composition") or "the material"
    densities = material.get("density_g_cm3")
    between = f" between {densities[0]:g} and {densities[1]:g} g/cm³" if densities else ""
    window = ""
    if data.target is not None:
        low, high = data.target.window_ev
        window = f", compared from {low:g} to {high:g} eV"
    oracle = f" by {data.provenance.oracle}" if data.provenance.oracle else ""
    return (
        f"Which structures of {composition}{between} have the {data.provenance.absorber} K-edge spectrum in "
        f"{Path(target.get('file') or 'the target file').name}{window}? "
        f"{data.summary.labels.budget} guided structures may be labelled{oracle}."
    )


def found(data: ReportData) -> list[str]:
    """The answer, one sentence a finding; says so where there is none yet."""
    summary = data.summary
    sentences = [_state(data)]
    if summary.best_distance is None:
        return [*sentences, "No guided structure has been labelled yet, so there is nothing found to report."]
    best = f"The best guided structure misses the target by {distance(summary.best_distance)} × 10⁻³ per eV"
    if summary.best_over_seed is not None:
        best += (
            f"; the best starting structure by {distance(summary.best_seed_distance)}. "
            f"{_compared(summary.best_over_seed, 'the best starting structure')}"
        )
    sentences.append(best + ("" if best.endswith(".") else "."))
    if summary.late_over_unguided is not None:
        sentences.append(
            f"The last third of the guided labels has a median of {distance(summary.late_median)}, "
            f"structures sampled without guidance {distance(summary.unguided_median)}. "
            f"{_compared(summary.late_over_unguided, 'the unguided ones')}"
        )
    else:
        sentences.append("There is no unguided baseline yet to compare with.")
    if data.seed_spread is not None:
        sentences.append(
            "For scale: the spectra of two starting structures typically differ by "
            f"{distance(data.seed_spread)}."
        )
    return sentences


def _state(data: ReportData) -> str:
    summary = data.summary
    labels = f"{summary.labels.guided} of {summary.labels.budget} guided labels"
    reason = f" ({summary.stop_reason})" if summary.stop_reason else ""
    if summary.state is CampaignState.FINISHED:
        return f"The campaign finished with {labels}{reason}."
    state = summary.state.value.lower()
    return f"The campaign is not finished: {state}{reason}, {labels}. All numbers are interim."


def _compared(ratio: float, other: str) -> str:
    if ratio < 1:
        return f"That is {ratio:.2f} times the distance of {other}: nearer to the target."
    return f"That is {ratio:.2f} times the distance of {other}: no nearer to the target."


def recovered(data: ReportData) -> str | None:
    """How the recovered intervals were made; None without any."""
    counts = [one.structures for one in data.summary.recovered.values()]
    if not counts:
        return None
    return (
        f"Intervals are the central 68 % of the {max(counts)} best guided structures, weighed by "
        "exp(−½ (d/d_best)²): a structure that misses twice as much as the best counts about a fifth. They "
        "tell what structures that explain the spectrum have in common under this oracle; the oracle's own "
        "error is not in them."
    )


def calibration(data: ReportData) -> str | None:
    """Error and coverage of the surrogate's predictions; None without predictions."""
    pairs = [
        (one.predicted_distance - one.spectral_distance, one.spectral_distance_std)
        for role in (LabelRole.BASELINE, LabelRole.GUIDED)
        for one in data.role(role)
        if one.predicted_distance is not None and one.spectral_distance is not None
    ]
    if not pairs:
        return None
    size = sum(abs(error) for error, _ in pairs) / len(pairs)
    bias = sum(error for error, _ in pairs) / len(pairs)
    text = (
        f"{len(pairs)} predictions made before the label: mean error {distance(size)} × 10⁻³ per eV, "
        f"{'optimistic' if bias < 0 else 'pessimistic'} by {distance(abs(bias))} on average"
    )
    known = [(error, std) for error, std in pairs if std]
    if not known:
        return text + "."
    inside = sum(abs(error) <= 1.645 * std for error, std in known) / len(known)
    return f"{text}; {inside:.0%} of the errors lie within the 90 % interval."


def agreement(data: ReportData) -> list[str]:
    """How far theory and experiment agree; empty when the target was given on the oracle's own axis."""
    record = data.alignment
    if not record:
        return []
    sentences = [_shift(record)]
    spread, residual = record.get("theory_spread"), record.get("residual")
    if residual is not None and spread:
        sentences.append(
            "After that, the starting structures nearest to the experiment still miss it by "
            f"{distance(residual)} × 10⁻³ per eV; two starting structures typically differ by "
            f"{distance(spread)} from each other."
        )
    best = data.summary.best_distance
    if best is None or not spread:
        return [*sentences, "How well a guided structure does cannot be said yet."]
    share = best / spread
    sentences.append(
        f"The best structure found misses the experiment by {distance(best)}, {share:.1f} times the "
        f"typical distance between theory's own structures. {_verdict(share)}"
    )
    sentences.append(
        "Shift and scale were fitted to the starting structures, so part of the agreement is by "
        "construction; instrument broadening, background and the oracle's approximations all count as "
        "distance."
    )
    return sentences


def _shift(record: dict[str, Any]) -> str:
    shift, (low, high) = record["shift_ev"], record["shift_range_ev"]
    return (
        f"The zero of the theory's energies, the Fermi level, was laid at {shift:.2f} eV of the experiment's "
        f"({low:.2f} to {high:.2f} eV are about as good): that much was subtracted from every measured energy. "
        f"The measured intensity, less its background, was multiplied by {record['scale']:.3g} to have unit area, "
        "as theory's has. Nothing else was adjusted."
    )


def _verdict(share: float) -> str:
    if share <= NEAR:
        return (
            "That is well within the differences that the theory resolves between structures: as far as "
            "this theory can tell, the structure explains the experiment."
        )
    if share <= FAR:
        return (
            "That is nearer than theory's structures are to one another, but not by much: the structure "
            "explains the main features, and what is left is not resolved. Read the recovered properties "
            "as tendencies."
        )
    return (
        "That is further than theory's structures are from one another: no structure found explains the "
        "experiment, and much of the remaining difference may be the theory's error, background or the "
        "wrong material. Do not read the recovered properties as a measurement."
    )


def property_line(data: ReportData, name: str) -> str | None:
    """``2.93 ± 0.08`` for the headline; None when it is not known."""
    one = data.summary.recovered.get(name)
    return None if one is None else f"{one.mean:.2f} ± {one.spread:.2f}"
