"""Settings given as a model, as a mapping, or not at all."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nearedge_db.errors import UserError

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(
    model: type[Settings],
    given: Settings | Mapping[str, Any] | None,
    overriding: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings, with ``overriding`` ones last; UserError for unknown keys and values out of range."""
    values = given.model_dump() if isinstance(given, model) else given
    if values is not None and not isinstance(values, Mapping):
        raise UserError(
            f"these are no {model.__name__}", got=repr(given), fix=f"give {', '.join(model.model_fields)}"
        )
    try:
        return model.model_validate({**(values or {}), **(overriding or {})})
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(
            f"the {model.__name__} are wrong at {'.'.join(map(str, fault['loc'])) or 'the whole'}",
            got=repr(fault["input"]),
            fix=fault["msg"],
        ) from error
