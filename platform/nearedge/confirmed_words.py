"""What the second oracle says, for people: cells of a table and sentences."""

from nearedge.confirmed import Checked, Confirmation

HEADER = ("structure", "first oracle", "second oracle", "expected of it", "energy (eV/atom)", "")
"""Distances in 10⁻³ per eV, energies by the second oracle above the lowest of them."""

SKILL = 0.8
"""Share of the error of the mean spectrum below which a correction is said to know how structures differ."""


def rows(confirmation: Confirmation) -> list[tuple[str, ...]]:
    """Cells under `HEADER`, the discovered structures first."""
    lowest = min((one.energy_per_atom_ev for one in confirmation.structures), default=0.0)
    return [_row(one, lowest) for one in confirmation.structures]


def _row(one: Checked, lowest: float) -> tuple[str, ...]:
    guided = one.role == "guided"
    name = f"no. {one.structure_id}" if guided else f"no. {one.structure_id} (start)"
    distances = (one.screening_distance, one.distance, one.corrected_distance)
    verdict = "" if not guided else "confirmed" if one.confirmed else "not confirmed"
    return (name, *map(_distance, distances), f"{one.energy_per_atom_ev - lowest:+.3f}", verdict)


def sentences(confirmation: Confirmation) -> list[str]:
    """How many are confirmed and by what measure, where the target was put, and what the correction is worth."""
    said = [_verdict(confirmation)]
    if confirmation.shift_ev is not None and confirmation.shift_range_ev is not None:
        low, high = confirmation.shift_range_ev
        said.append(
            f"The second oracle's zero lies at {confirmation.shift_ev:.2f} eV on the target's axis ({low:.2f} to "
            f"{high:.2f} are about as good); there the nearest starting structures are "
            f"{_distance(confirmation.residual)} from the target on average."
        )
    if confirmation.unplaced is not None:
        said.append(f"There are no distances by the second oracle: {confirmation.unplaced}.")
    return [*said, _correction(confirmation)]


def _verdict(confirmation: Confirmation) -> str:
    checked, best = len(confirmation.discovered), confirmation.best_start_distance
    if not checked:
        return f"{confirmation.oracle} has labelled none of the {confirmation.wanted} best structures yet."
    if best is None:
        return f"{confirmation.oracle} has labelled {checked} of the {confirmation.wanted} best structures."
    starts = len(confirmation.structures) - checked
    return (
        f"{confirmation.oracle} confirms {confirmation.confirmed} of {checked} best structures, those that it too "
        f"has nearer to the target than the best of {starts} starting structures ({_distance(best)})."
    )


def _correction(confirmation: Confirmation) -> str:
    learnt = confirmation.correction
    if learnt is None:
        return f"No correction between the two oracles: {confirmation.refusal}."
    worth = (
        "it has learnt how structures differ"
        if learnt.error < SKILL * learnt.constant_error
        else "it has learnt next to nothing of how structures differ"
    )
    return (
        f"Correction learnt from {learnt.pairs} structures labelled by both: the second oracle's spectra are foretold "
        f"with an error of {_distance(learnt.error)} (each left out in turn), against "
        f"{_distance(learnt.shifted_error)} by the shifted spectra as they are and "
        f"{_distance(learnt.constant_error)} by the mean of the others: {worth}."
    )


def _distance(value: float | None) -> str:
    return "—" if value is None else f"{1e3 * value:.2f}"
