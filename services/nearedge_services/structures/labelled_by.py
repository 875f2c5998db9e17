"""Which oracle labelled structures, as their files say it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from nearedge_db.errors import UserError


def check_one_oracle(structures: Sequence[Atoms], data: Path) -> None:
    """Raise UserError where the labels are of more than one oracle, or of one with different settings.

    Frames that do not say who labelled them are one kind of their own. A campaign's exports have the settings under
    ``settings_hash``.
    """
    kinds = Counter(
        (
            str(atoms.info.get("oracle", "")),
            str(atoms.info.get("oracle_settings", atoms.info.get("settings_hash", ""))),
        )
        for atoms in structures
    )
    if len(kinds) > 1:
        found = (
            f"{count} by {oracle or 'an oracle'} with settings {settings[:12] or 'unknown'}"
            if oracle or settings
            else f"{count} that do not say by which"
            for (oracle, settings), count in sorted(kinds.items())
        )
        raise UserError(
            "the structures are labelled by different oracles or settings",
            got=f"{data}: {', '.join(found)}",
            fix="use those of one oracle and settings; `nearedge label` labels the others again",
        )
