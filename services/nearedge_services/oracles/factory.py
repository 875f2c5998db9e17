"""The oracles by name.

To add one: write a module with a frozen pydantic settings class and a class that satisfies
`nearedge_services.oracles.base.Oracle`, add one line to `ORACLES`, and subclass the contract tests
(`tests/services/oracles/contract.py`) for it. The module is imported only when its oracle is asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from nearedge_db.errors import UserError
from nearedge_services.oracles.base import Oracle


def _xtb(settings: Mapping[str, Any]) -> Oracle:
    from nearedge_services.oracles.xtb import XtbOracle, XtbSettings

    return XtbOracle(XtbSettings(**settings))


def _espresso(settings: Mapping[str, Any]) -> Oracle:
    from nearedge_services.oracles.espresso import EspressoOracle, EspressoSettings

    oracle = EspressoOracle(EspressoSettings(**settings))
    oracle.check_installed()
    return oracle


def _gpaw(settings: Mapping[str, Any]) -> Oracle:
    from nearedge_services.oracles.gpaw import GpawOracle, GpawSettings

    oracle = GpawOracle(GpawSettings(**settings))
    oracle.check_installed()
    return oracle


def _feff(settings: Mapping[str, Any]) -> Oracle:
    from nearedge_services.oracles.feff import FeffOracle, FeffSettings, check_installed

    check_installed()
    return FeffOracle(FeffSettings(**settings))


#: Each takes the settings as plain values and raises pydantic's ValidationError for what it does not know.
ORACLES: dict[str, Callable[[Mapping[str, Any]], Oracle]] = {
    "espresso": _espresso,
    "feff": _feff,
    "gpaw": _gpaw,
    "xtb": _xtb,
}


def make_oracle(name: str, settings: Mapping[str, Any] | None = None) -> Oracle:
    """The oracle of that name. Raises UserError for an unknown name, an unknown key or a bad value.

    Example:
        >>> make_oracle("xtb", {"sigma_ev": 0.5}).settings.sigma_ev
        0.5
    """
    if name not in ORACLES:
        raise UserError("unknown oracle", got=name, fix=f"choose one of: {', '.join(sorted(ORACLES))}")
    try:
        return ORACLES[name](settings or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if not key:  # of several settings together
            raise UserError(
                f"oracle {name}: the settings do not fit together",
                got=first["msg"].removeprefix("Value error, "),
                fix="add or change what it names",
            ) from error
        raise UserError(
            f"oracle {name}: setting '{key}' is not valid: {first['msg']}",
            got=repr(first["input"]),
            fix="correct or remove it",
        ) from error
