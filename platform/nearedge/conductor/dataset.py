"""Which labelled structures a campaign's models learn from, and which they are judged on."""

from bisect import bisect_left
from dataclasses import dataclass, field

from nearedge_db.database import Database
from nearedge_db.states import StructureOrigin
from nearedge_db.store import labelled_hashes, next_use

STARTING = (StructureOrigin.SEED, StructureOrigin.SEED_PATH, StructureOrigin.SEED_RATTLED)


@dataclass
class Dataset:
    """Content hashes, in order. All are read once, then those whose labels have been put to use since."""

    database: Database
    campaign_id: int
    settings_hash: str
    train: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    starting: int = 0
    """How many of both are starting structures."""
    _next: int | None = None
    """Number of the first use of a label that has not been looked at; None before the first look."""

    def __len__(self) -> int:
        return len(self.train) + len(self.held_out)

    def read(self) -> None:
        """Look for new ones."""
        with self.database.session() as session:
            following = next_use(session, self.campaign_id)
            rows = labelled_hashes(session, self.campaign_id, self.settings_hash, self._next)
        self._next = following
        for content_hash, held_out, origin in rows:
            self._add(content_hash, held_out, origin)

    def _add(self, content_hash: str, held_out: bool, origin: StructureOrigin) -> None:
        """Rattled frames are for learning only: models are judged on networks that could exist."""
        if held_out and origin is StructureOrigin.SEED_RATTLED:
            return
        hashes = self.held_out if held_out else self.train
        place = bisect_left(hashes, content_hash)
        if hashes[place : place + 1] != [content_hash]:
            hashes.insert(place, content_hash)
            self.starting += origin in STARTING
