"""Colours, fonts and names that all panels share."""

from collections.abc import Iterable

from nearedge_db.states import LabelRole

INK, MUTED, GRID_LINE, PAPER = "#1d2733", "#66717f", "#e6e9ee", "#ffffff"
TARGET = "#111827"
GUIDED, GUIDED_SOFT = "#0f6fb3", "#9cc6e4"
UNGUIDED = "#d9822b"
SEED = "#8b95a3"
ACCENT = "#b3261e"

ROLE_COLOURS = {LabelRole.SEED: SEED, LabelRole.BASELINE: UNGUIDED, LabelRole.GUIDED: GUIDED}
ROLE_NAMES = {
    LabelRole.SEED: "starting structures",
    LabelRole.BASELINE: "unguided",
    LabelRole.GUIDED: "guided",
}
BEST_COLOURS = ("#0b4f80", "#0f6fb3", "#3f93cc", "#75b3dc", "#a9d0ea")
"""The best structures, the best first."""

COORDINATION_COLOURS = {1: "#9aa3ae", 2: "#d9822b", 3: "#2f9e6e", 4: "#0f6fb3", 5: "#b3261e"}
DISTANCE_TITLE = "spectral distance (10⁻³ per eV)"
MILLI = 1e3
"""Distances are shown in 10⁻³ per eV."""

FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
POOL_ORDER = ("generator", "scorer", "labeler", "trainer")


def pool_names(names: Iterable[str]) -> list[str]:
    """Pools in the order of the work, others after them."""
    return sorted(
        names, key=lambda name: (POOL_ORDER.index(name) if name in POOL_ORDER else len(POOL_ORDER), name)
    )
