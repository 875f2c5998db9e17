"""The failure ladder: with what settings a calculation that failed is tried again, and when it is given up.

A rung changes only how the calculation gets to its answer (steps, mixing, limits, how much runs side by side), never
what the answer is: a label keeps the identity of the settings that were asked for, and with it what was finished of it
(`per_absorber.asked_as`). A broken geometry and settings that do not fit have no rung: another try would fail as the
first. What is missing on one machine may be on the next.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nearedge_services.oracles.errors import FailureKind

Rung = Mapping[str, Callable[[Any], Any]]
"""Setting (``key`` or ``run.key``) to what makes its next value of the asked one; empty: the same again."""


def times(factor: float) -> Callable[[Any], Any]:
    """So many times the value, whole where it is whole, and at least 1 then; what is not set (None) stays so."""

    def change(value: Any) -> Any:
        if value is None:
            return None
        return max(1, round(factor * value)) if isinstance(value, int) else factor * value

    return change


def exactly(new: float | str | None) -> Callable[[Any], Any]:
    """This value, whatever it was."""
    return lambda _: new


_AGAIN: Rung = {}
_FEWER: Rung = {"run.workers": times(0.5), "run.elsewhere": exactly(0)}
_ALONE: Rung = {"run.workers": exactly(1), "run.elsewhere": exactly(0)}
_LONGER: Rung = {"run.seconds": times(3)}

_BANDS_ENOUGH: Rung = {"bands_per_atom": exactly(None)}
"""Of gpaw, which says that it has too few as it says that it did not converge; more do not change the window."""

_ANY: dict[FailureKind, tuple[Rung, ...]] = {FailureKind.MISSING_DATA: (_AGAIN, _AGAIN)}
"""Of all oracles."""

_PROGRAMS: dict[FailureKind, tuple[Rung, ...]] = {
    **_ANY,
    FailureKind.OUT_OF_MEMORY: (_FEWER, _ALONE),
    FailureKind.TIMEOUT: (_LONGER,),
    FailureKind.CRASH: (_AGAIN, _ALONE),
}
"""Of the oracles that run external programs."""


def _with_other_solver(solver: Rung) -> dict[FailureKind, tuple[Rung, ...]]:
    """The same where a program has another way to its states: slower, sturdier and with less memory."""
    return {
        **_PROGRAMS,
        FailureKind.OUT_OF_MEMORY: ({**_FEWER, **solver}, {**_ALONE, **solver}),
        FailureKind.CRASH: (_AGAIN, {**_ALONE, **solver}),
    }


_KINDS = {kind.value: kind for kind in FailureKind}

LADDERS: dict[str, dict[FailureKind, tuple[Rung, ...]]] = {
    "xtb": {
        **_ANY,
        FailureKind.NOT_CONVERGED: ({"max_iterations": times(4)},),
        FailureKind.CRASH: (_AGAIN,),
        FailureKind.OUT_OF_MEMORY: (_AGAIN,),
        FailureKind.TIMEOUT: (_LONGER,),
    },
    "gpaw": {
        **_with_other_solver({"run.eigensolver": exactly("cg")}),
        FailureKind.NOT_CONVERGED: (
            {"iterations": times(2), "run.mixing": exactly(0.05), **_BANDS_ENOUGH},
            {"iterations": times(4), "run.mixing": exactly(0.02), **_BANDS_ENOUGH},
        ),
    },
    "espresso": {
        **_with_other_solver({"run.diagonalization": exactly("cg")}),
        FailureKind.NOT_CONVERGED: (
            {"iterations": times(2), "mixing": times(0.5), "lanczos_iterations": times(2)},
            {"iterations": times(4), "mixing": times(0.2), "lanczos_iterations": times(4)},
        ),
    },
    "feff": {**_PROGRAMS, FailureKind.NOT_CONVERGED: ({"mixing": times(0.5)}, {"mixing": times(0.2)})},
}


def changes_after(oracle: str, settings: Mapping[str, Any], failures: Iterable[str]) -> dict[str, Any] | None:
    """What to change for the next try after these failures (kinds), as ``{"run.workers": 1}``; None: give up.

    The n-th failure of a kind leads to the n-th rung of its ladder; rungs of different kinds are climbed side by
    side. ``settings`` are those that were asked for, as plain values.
    A cancelled try, and a worker that died, count for nothing. An oracle without a ladder is tried once.

    Example:
        >>> changes_after("xtb", {"max_iterations": 250}, ["not converged"])
        {'max_iterations': 1000}
        >>> changes_after("xtb", {"max_iterations": 250}, ["bad geometry"]) is None
        True
    """
    ladder = LADDERS.get(oracle, {})
    changes: dict[str, Any] = {}
    for name, count in Counter(failures).items():
        kind = _KINDS.get(name)
        if kind is None or kind is FailureKind.CANCELLED:
            continue
        rungs = ladder.get(kind, ())
        if count > len(rungs):
            return None
        changes |= {key: change(_value(settings, key)) for key, change in rungs[count - 1].items()}
    return {key: value for key, value in changes.items() if value != _value(settings, key)}


def changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Copy of plain settings with these changes, whose keys may be ``run.key``."""
    result = {**settings}
    for key, value in changes.items():
        first, _, rest = key.partition(".")
        result[first] = changed(result[first], {rest: value}) if rest else value
    return result


def _value(settings: Mapping[str, Any], key: str) -> Any:
    first, _, rest = key.partition(".")
    value = settings[first]
    return _value(value, rest) if rest else value
