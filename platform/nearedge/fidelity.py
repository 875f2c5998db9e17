"""Settings of the oracles: the one that labels everything, and the dearer one that confirms the best."""

from typing import Any

from pydantic import Field

from nearedge.section import Section

LEAST_STARTS = 6
"""As many pairs as a correction needs (`LEAST_PAIRS` of the correction, without importing it here)."""


class OracleConfig(Section):
    """The electronic-structure method that labels."""

    name: str = "xtb"
    settings: dict[str, Any] = Field(default_factory=dict)


class ConfirmConfig(Section):
    """A second, dearer method that labels the best structures once more; nothing is trained on its labels."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    best: int = Field(5, ge=1)
    """Guided structures that are confirmed at the end: those nearest to the target by ``oracle``."""
    starts: int = Field(8, ge=LEAST_STARTS)
    """Starting structures that are labelled by both: they place the target on the energies of this method, are what a
    discovered structure has to beat, and teach the correction."""
    every: int | None = Field(None, ge=1)
    """After so many guided labels the best so far are confirmed already."""
    align: bool = True
    """Find the target's place on the energies of this method by a rigid shift against the starting structures;
    ``False`` where the file has these energies already, as a spectrum has that this method calculated."""


def spelt_out(data: dict[str, Any]) -> dict[str, Any]:
    """``screen`` is another word for ``oracle``, and the name alone stands for an oracle without settings.

    Raises ValueError when both words are used.
    """
    if "screen" in data:
        if "oracle" in data:
            raise ValueError("screen and oracle are the same setting: give one of them")
        data = {("oracle" if key == "screen" else key): value for key, value in data.items()}
    short = {key: {"name": data[key]} for key in ("oracle", "confirm") if isinstance(data.get(key), str)}
    return {**data, **short}
