"""What a bench is, and which there are.

A bench measures something and shows every figure beside its baseline and its limit. To add one, write a class
with `name`, `run` and `draw` (see `Bench`) and give it a line in `BENCHES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from nearedge_db.errors import UserError

Report = Callable[[float, str], None]
"""Takes the finished share (0 to 1) and what is being done now."""

BENCHES: dict[str, str] = {
    "chaos": "nearedge.bench.chaos.bench:ChaosBench",
    "generation": "nearedge.bench.generation:GenerationBench",
    "loop": "nearedge.bench.loop:LoopBench",
    "material": "nearedge.bench.material:MaterialBench",
    "oracles": "nearedge.bench.oracles:OraclesBench",
    "scale": "nearedge.bench.scale:ScaleBench",
    "steering": "nearedge.bench.steering:SteeringBench",
    "surrogate": "nearedge.bench.surrogate:SurrogateBench",
}
"""Name to "module:class"; a module is imported when its bench is made."""


@dataclass(frozen=True)
class BenchOptions:
    """What the user asked for.

    Attributes:
        out: folder of the results; it exists and may be written.
        short: the form that fits in CI.
        seed: everything random comes from it.
        models: folder with prior/, surrogate/, potential/; None: the shipped ones.
        reference: reference structures (.extxyz); None: what the bench comes with.
        threads: torch threads.
    """

    out: Path
    short: bool = False
    seed: int = 0
    models: Path | None = None
    reference: Path | None = None
    threads: int = 1

    def model(self, kind: str, elements: Sequence[str]) -> Path:
        """Folder of the model ``kind`` ("prior", "surrogate", "potential") for these elements.

        Raises UserError when the folder the user named has none, or none is shipped.
        """
        if self.models is not None:
            folder = self.models / kind
            if not folder.is_dir():
                raise UserError(
                    f"there is no {kind} here", got=self.models, fix=f"name a folder that has {kind}/"
                )
            return folder
        from nearedge_services.weights import shipped

        shipped_folder = shipped(kind, elements)
        if shipped_folder is None:
            raise UserError(
                f"no {kind} for these elements comes with the program",
                got=", ".join(elements),
                fix=f"give --model FOLDER with {kind}/",
            )
        return shipped_folder


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: the quantity, in words.
        measured: its value; None when it could not be measured.
        baseline: the same of what it is compared with, if there is such a thing.
        limit: what it must reach, if anything.
        unit: of all three.
        passed: None without a limit.
        sense: whether the limit is the largest or the smallest value that passes.
    """

    what: str
    measured: float | None
    baseline: float | None
    limit: float | None
    unit: str
    passed: bool | None
    sense: Literal["≤", "≥"] = "≤"

    @classmethod
    def shown(cls, what: str, measured: float | None, unit: str = "", baseline: float | None = None) -> "Row":
        """A figure without a limit."""
        return cls(what, measured, baseline, None, unit, None)

    @classmethod
    def at_most(
        cls, what: str, measured: float | None, limit: float, unit: str = "", baseline: float | None = None
    ) -> "Row":
        """Passes up to the limit; a value that is missing or NaN does not pass."""
        return cls(what, measured, baseline, limit, unit, measured is not None and measured <= limit, "≤")

    @classmethod
    def at_least(
        cls, what: str, measured: float | None, limit: float, unit: str = "", baseline: float | None = None
    ) -> "Row":
        """Passes from the limit on; a value that is missing or NaN does not pass."""
        return cls(what, measured, baseline, limit, unit, measured is not None and measured >= limit, "≥")


@dataclass(frozen=True)
class BenchResult:
    """What one run of a bench found.

    Attributes:
        name: of the bench.
        rows: figures of the table.
        data: whatever else is worth keeping: numbers, strings, lists, dictionaries, numpy arrays.
    """

    name: str
    rows: Sequence[Row]
    data: Mapping[str, Any] = field(default_factory=dict)


class Bench(Protocol):
    """A measurement; made without arguments."""

    name: str

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """Measure. Raises UserError for models or references that are missing, before long work."""
        ...

    def draw(self, result: BenchResult, path: Path) -> None:
        """Write the picture (.png)."""
        ...


def make_bench(name: str) -> Bench:
    """The bench of this name; UserError with the names there are for an unknown one."""
    if name not in BENCHES:
        raise UserError("there is no such bench", got=name, fix=f"choose one of {', '.join(sorted(BENCHES))}")
    module, _, factory = BENCHES[name].partition(":")
    bench: Bench = getattr(import_module(module), factory)()
    return bench
