"""The kinds of models there are, and what the registry calls them."""

from nearedge_db.errors import UserError

KINDS = ("prior", "surrogate", "potential")
_PREFIX = "nearedge-"
CHAMPION_POTENTIAL = "models:/nearedge-potential@champion"
"""Address of the potential that is in use."""


def registered_name(kind: str) -> str:
    """`nearedge-potential` for `potential`; UserError for a kind that does not exist."""
    if kind not in KINDS:
        raise UserError("no such kind of model", got=kind, fix=f"choose one of {', '.join(KINDS)}")
    return _PREFIX + kind


def kind_of(name: str) -> str:
    """`potential` for `nearedge-potential`; UserError for a name that is not ours."""
    kind = name.removeprefix(_PREFIX)
    registered_name(kind)
    return kind
