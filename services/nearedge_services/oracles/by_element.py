"""Settings with one value for all absorbers, or one for each absorbing element: energies of the 1s level."""

from collections.abc import Iterable, Mapping

from nearedge_db.errors import UserError

ByElement = float | dict[str, float]
"""One number, or ``{"Si": 1839.0, "C": 284.0}``."""


def value_of(setting: ByElement, symbol: str) -> float:
    """The setting's value for an element that `check_covers` let pass."""
    return setting[symbol] if isinstance(setting, Mapping) else setting


def check_covers(key: str, setting: ByElement, symbols: Iterable[str], *, one_suits_one: bool) -> None:
    """Raise UserError where the setting has no value for one of the absorbing elements.

    ``one_suits_one``: a single number belongs to a single element, as where it is a level of the 1s electron.
    """
    absorbing = sorted(set(symbols))
    if isinstance(setting, Mapping):
        missing = [symbol for symbol in absorbing if symbol not in setting]
        if missing:
            raise UserError(
                f"the oracle's setting {key} has no value for an absorbing element",
                got=", ".join(missing),
                fix=f"add it in eV, or choose others with absorbers, e.g. absorbers: [{next(iter(setting), 'C')}]",
            )
    elif one_suits_one and len(absorbing) > 1:
        raise UserError(
            f"the oracle's setting {key} is one number for several absorbing elements",
            got=f"{setting:g} for {', '.join(absorbing)}",
            fix=f"give each its own, {key}: {{{absorbing[0]}: …, {absorbing[1]}: …}}, "
            f"or choose one with absorbers: [{absorbing[0]}]",
        )
