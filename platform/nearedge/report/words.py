"""The report in plain words: what was asked, and what was found."""

from pathlib import Path

from nearedge.inferred_words import shown, verdict
from nearedge.report.data import ReportData
from nearedge.status import distance
from nearedge_db.states import CampaignState, LabelRole


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
    judged = verdict(summary.inferred, summary.recovered)
    if summary.best_distance is None:
        nothing = "No guided structure has been labelled yet, so there is nothing found to report."
        return [*sentences, nothing, judged]
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
        if (
            summary.best_unguided_distance is not None
            and summary.best_unguided_distance <= summary.best_distance
        ):
            sentences.append(
                f"But the best of the unguided ones, {distance(summary.best_unguided_distance)}, is as near as the "
                "best guided one, or nearer."
            )
    else:
        sentences.append("There is no unguided baseline yet to compare with.")
    sentences.append(judged)
    scale = _scale(data)
    return sentences if scale is None else [*sentences, scale]


def _scale(data: ReportData) -> str | None:
    """What starting structures differ by: any two of them, and two of like density."""
    if data.seed_spread is None:
        return None
    any_two = f"For scale: the spectra of any two starting structures typically differ by {distance(data.seed_spread)}"
    like = data.like_spread
    if like.median is None:
        return (
            f"{any_two}; there are too few of like density ({like.pairs} pairs) to say what those differ by."
        )
    return f"{any_two}, those of two of like density by {distance(like.median)} ({like.pairs} pairs)."


def _state(data: ReportData) -> str:
    summary = data.summary
    labels = f"{summary.labels.guided} of {summary.labels.budget} guided labels"
    reason = f" ({summary.stop_reason})" if summary.stop_reason else ""
    if summary.state is CampaignState.FINISHED:
        return f"The campaign finished with {labels}{reason}."
    state = summary.shown_state.replace(summary.state.value, summary.state.value.lower())
    return f"The campaign is not finished: {state}{reason}, {labels}. All numbers are interim."


def _compared(ratio: float, other: str) -> str:
    if ratio < 1:
        return f"That is {ratio:.2f} times the distance of {other}: nearer to the target."
    return f"That is {ratio:.2f} times the distance of {other}: no nearer to the target."


def recovered(data: ReportData) -> str | None:
    """What the recovered numbers are, and what they are not; None without any."""
    counts = [one.structures for one in data.summary.recovered.values()]
    if not counts:
        return None
    return (
        f"The numbers after ± are the spread of the ensemble of the {max(counts)} best guided structures, the "
        "ranges its central 68 %, weighed by exp(−½ (d/d_best)²): a structure that misses twice as much as the best "
        "counts about a fifth. They tell how alike the nearest structures found are. They are not intervals that "
        "cover the truth with a known probability: neither the oracle's own error is in them, nor structures that "
        "nobody looked for."
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
    return f"{text}; {inside:.0%} of the errors lie within the surrogate's own 90 % interval."


def property_line(data: ReportData, name: str) -> str | None:
    """``2.93 ± 0.08`` for the headline; None when it is not known."""
    one = data.summary.recovered.get(name)
    return None if one is None else f"{one.mean:.2f} ± {one.spread:.2f}"


def inferred_line(data: ReportData, name: str) -> str | None:
    """``2.71–3.15``, the interval for the headline; None where the spectrum alone says nothing that counts."""
    ends = data.inferred_range(name)
    return "–".join(shown(name, value) for value in ends) if ends else None


def frames(data: ReportData) -> str | None:
    """What is drawn for what the spectrum says; None where nothing is."""
    if not data.summary.inferred.known:
        return None
    return "In the panels below, the dotted frame is the 90 % interval of what the spectrum alone says."
