"""Settings given as a model, as a mapping, or not at all."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge_services.refinement import RefinementSettings

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


def for_material(refinement: "RefinementSettings", atoms: "Atoms") -> "RefinementSettings":
    """The same, but annealed at temperatures for this material where none were given: the defaults are carbon's."""
    from nearedge_services.structures.composition import parse_composition
    from nearedge_services.structures.material import Scales

    anneal = refinement.anneal
    if anneal is None or {"start_k", "end_k"} & anneal.model_fields_set:
        return refinement
    scales = Scales.of(parse_composition(atoms.get_chemical_formula()))
    return refinement.model_copy(update={"anneal": anneal.scaled(scales.temperature)})
