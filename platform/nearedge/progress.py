"""Live progress in the terminal; plain lines where there is no terminal."""

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from nearedge.config import CampaignConfig
from nearedge_db.states import LabelRole
from nearedge_db.store import PoolTotals, label_uses, pool_totals

if TYPE_CHECKING:
    from nearedge.conductor.conductor import Conductor

REFRESH_S = 0.5
READ_EVERY_S = 3.0
"""How often the database is asked on a terminal; what pools have used is written as often."""
PLAIN_EVERY_S = 15.0


class Display:
    """A live table on a terminal, a line every 15 s elsewhere."""

    def __init__(self, config: CampaignConfig, console: Console) -> None:
        self.config = config
        self.console = console
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )
        self._last = 0.0
        self._stored: _Stored | None = None

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *reason: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, conductor: "Conductor") -> None:
        """Show where the campaign is, if the last look is old enough."""
        period = PLAIN_EVERY_S if self._live is None else REFRESH_S
        if time.monotonic() - self._last < period:
            return
        self._last = time.monotonic()
        if self._stored is None or self._last - self._stored.read_at >= READ_EVERY_S:
            self._stored = _read(conductor, self._last)
        facts = _facts(conductor, self._stored)
        if self._live is None:
            # one line each in a log, however long
            self.console.print(_line(facts), markup=False, highlight=False, soft_wrap=True)
        else:
            self._live.update(_table(self.config.name, facts), refresh=True)


@dataclass(frozen=True)
class _Stored:
    """What the database says: distances (1/eV) by role, starting structures with a label, and what pools have used."""

    read_at: float
    distances: dict[LabelRole, list[float]]
    starting: int
    totals: dict[str, PoolTotals]


def _read(conductor: "Conductor", now: float) -> _Stored:
    context = conductor.context
    with context.database.session() as session:
        uses = label_uses(session, context.campaign_id)
        totals = pool_totals(session, context.campaign_id)
    by_role = {
        role: [u.spectral_distance for u in uses if u.role is role and u.spectral_distance is not None]
        for role in LabelRole
    }
    return _Stored(now, by_role, sum(use.role is LabelRole.SEED for use in uses), totals)


def _facts(conductor: "Conductor", stored: _Stored) -> dict[str, Any]:
    """Everything shown."""
    context, labelling, stop = conductor.context, conductor.labelling, conductor.context.config.stop
    checks = {"second oracle": conductor.confirming.progress} if context.confirming is not None else {}
    by_role, totals = stored.distances, stored.totals
    return {
        "time": time.strftime("%H:%M:%S", time.gmtime(conductor.seconds)),
        "labels": {
            "starting structures": (
                stored.starting,
                conductor.seeding.count,
            ),
            "unguided": (labelling.baseline_labels, stop.baseline),
            "guided": (labelling.guided_labels, stop.labels),
            **checks,
        },
        "distances": {
            "starting structures": by_role[LabelRole.SEED],
            "unguided": by_role[LabelRole.BASELINE],
            "guided": by_role[LabelRole.GUIDED],
        },
        "doing": {name: _doing(pool.under_way, pool.size) for name, pool in conductor.pools.items()},
        "occupancy": {name: totals[name].occupancy if name in totals else 0.0 for name in conductor.pools},
        "waiting": len(conductor.scoring.waiting),
        "rejected": dict(conductor.scoring.rejected.most_common()),
        "training": conductor.training.under_way,
    }


def _doing(under_way: list[Any], size: int) -> str:
    words = {
        "generate": "sampling",
        "score": "relaxing and scoring",
        "predict": "scoring again",
        "work": "working",
    }
    if not under_way:
        return "idle"
    verbs = sorted({words.get(work.method, work.method.replace("_", " ")) for work in under_way})
    return f"{', '.join(verbs)} ({len(under_way)}/{size})"


def _table(name: str, facts: dict[str, Any]) -> Table:
    table = Table(title=f"{name}   {facts['time']}", title_justify="left", expand=False)
    for column in ("", "doing", "occupancy"):
        table.add_column(column, justify="right" if column == "occupancy" else "left")
    for pool, doing in facts["doing"].items():
        subject = ": " + ", ".join(facts["training"]) if pool == "trainer" and facts["training"] else ""
        table.add_row(pool, doing + subject, f"{facts['occupancy'][pool]:.0%}")
    table.add_section()
    for role, (done, wanted) in facts["labels"].items():
        distances = facts["distances"].get(role, [])
        numbers = (
            f"best {min(distances):.4f}, median {statistics.median(distances):.4f} /eV" if distances else ""
        )
        table.add_row(role, f"{done} of {wanted} labels", numbers)
    table.add_row("candidates waiting", str(facts["waiting"]), "")
    table.add_row("rejected", _rejections(facts["rejected"]) or "none", "")
    return table


def _rejections(rejected: dict[str, int]) -> str:
    """How many candidates this session rejected, by reason; empty without any."""
    return ", ".join(f"{reason} {count}" for reason, count in rejected.items())


def _line(facts: dict[str, Any]) -> str:
    labels = ", ".join(f"{role} {done}/{wanted}" for role, (done, wanted) in facts["labels"].items())
    known = {role: values for role, values in facts["distances"].items() if values}
    distances = ", ".join(
        f"{role} {min(values):.4f}/{statistics.median(values):.4f}" for role, values in known.items()
    )
    busy = ", ".join(
        f"{name} {facts['occupancy'][name]:.0%} ({doing})" for name, doing in facts["doing"].items()
    )
    rejections = _rejections(facts["rejected"])
    rejected = f"; rejected: {rejections}" if rejections else ""
    training = f" [{', '.join(facts['training'])}]" if facts["training"] else ""
    return (
        f"{facts['time']}  labels: {labels}; best/median distance per eV: {distances or 'none yet'}; "
        f"occupancy: {busy}{training}{rejected}"
    )
