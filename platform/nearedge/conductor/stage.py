"""What a stage of the campaign is: it offers work for one pool and takes the answers."""

from typing import Protocol

from nearedge_agents.pool import Done, Work


class Stage(Protocol):
    """One kind of work. Stages of the same pool are asked in order of urgency; there is no barrier between them."""

    name: str
    pool: str
    """Name of the pool that does the work."""

    @property
    def backlog(self) -> int:
        """Pieces of work that could begin now if the pool had the actors; looking changes nothing."""
        ...

    def offer(self) -> Work | None:
        """The most useful piece of work there is now for a free actor, or None."""
        ...

    def takes_over(self, work: Work) -> bool:
        """Whether the stage wants the answer to this work, which an actor has though the stage did not offer it.

        That is so where the conductor has read anew what it knows. It is not offered again then.
        """
        ...

    def accept(self, done: Done) -> None:
        """Take an answer, an error or the loss of an actor; everything worth keeping goes to the database here."""
        ...
