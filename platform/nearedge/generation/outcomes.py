"""What becomes of each structure that was asked for."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Finished:
    """A structure, and what is known of it."""

    index: int
    atoms: "Atoms"
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A structure that could not be finished."""

    index: int
    seed: int
    reason: str
    atoms: "Atoms | None" = None
    """The last that is known of it, if anything; not to be used as a result."""


class GenerationError(RuntimeError):
    """Some structures failed; the others are complete.

    failures: which, and why; completed: the structures that were finished, in order.
    """

    def __init__(self, failures: list[Failure], completed: "list[Atoms]") -> None:
        reasons = "; ".join(f"structure {one.index} (seed {one.seed}): {one.reason}" for one in failures)
        super().__init__(f"{len(failures)} failed, {len(completed)} finished: {reasons}")
        self.failures = failures
        self.completed = completed

    def __reduce__(self) -> tuple:
        """Rebuild with both parts where the error crosses a process border."""
        return (GenerationError, (self.failures, self.completed))
