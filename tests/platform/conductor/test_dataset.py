"""What models learn from: read once, then only what has come since, with the same outcome."""

import pytest

from nearedge.conductor import dataset
from nearedge.conductor.dataset import STARTING, Dataset
from nearedge_db.states import StructureOrigin
from nearedge_db.store import labelled_hashes


def expected(world):
    """All of it, read anew: to train on and held out, and how many are starting structures."""
    with world.database.session() as session:
        rows = labelled_hashes(session, 1, world.oracle.settings_hash)
    used = [row for row in rows if not (row[1] and row[2] is StructureOrigin.SEED_RATTLED)]
    train, held_out = ([key for key, apart, _ in used if apart is wanted] for wanted in (False, True))
    return train, held_out, sum(origin in STARTING for _, _, origin in used)


@pytest.fixture
def read(monkeypatch):
    """How many rows each look has read."""
    counts = []

    def counted(*arguments):
        rows = labelled_hashes(*arguments)
        counts.append(len(rows))
        return rows

    monkeypatch.setattr(dataset, "labelled_hashes", counted)
    return counts


def test_looking_again_and_again_finds_what_one_look_finds(world, read):
    conductor, looks = world.conductor(), []
    data = Dataset(world.database, 1, world.oracle.settings_hash)

    def look():
        if conductor.seeding.complete:
            data.read()
            looks.append(len(data))

    conductor.run(look)
    data.read()
    assert (data.train, data.held_out, data.starting) == expected(world)
    assert looks[0] < looks[-1] == len(data)
    read.clear()
    data.read()
    assert read == [0]
