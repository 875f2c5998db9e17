"""Sessions of a campaign in a fake world: run one to its end or kill it, and look at what is left."""

import pytest
from ase import Atoms
from sqlalchemy import func, select
from tests.platform.conductor.fake_world import World

from nearedge_db.schema import Candidate, LabelRow, LabelUse, TaskRow
from nearedge_db.states import CandidateState, LabelRole, TaskState
from nearedge_db.store import label_uses


class Killed(BaseException):
    """What `kill -9` does: no handler runs but `finally`."""


def count(world: World, table, *conditions) -> int:
    """How many rows of a table fulfil the conditions."""
    with world.database.session() as session:
        return session.scalar(select(func.count()).select_from(table).where(*conditions))


def roles(world: World) -> dict[LabelRole, int]:
    """How many labels the campaign uses for what."""
    with world.database.session() as session:
        uses = label_uses(session, 1)
    return {role: sum(use.role is role for use in uses) for role in LabelRole}


def run(world: World, limit: int = 3000, starting: list[Atoms] | None = None):
    """Run a session to its end; a campaign that stands still is a failure, not a hanging test."""
    session, ticks = world.conductor(starting), [0]

    def tick() -> None:
        ticks[0] += 1
        assert ticks[0] < limit, "the campaign stands still"

    return session, session.run(tick)


def stop_after(world: World, done) -> object:
    """Run a session and kill it as soon as ``done(conductor)`` holds."""
    session = world.conductor()

    def tick() -> None:
        if done(session):
            raise Killed

    with pytest.raises(Killed):
        session.run(tick)
    return session


def assert_complete(world: World) -> None:
    """Budget spent, every label once, nothing under way."""
    assert roles(world) == {
        LabelRole.SEED: 5,
        LabelRole.BASELINE: 2,
        LabelRole.GUIDED: 4,
        LabelRole.CONFIRM: 0,
    }
    assert len(world.labels_computed) == len(set(world.labels_computed))
    assert count(world, LabelRow) == len(world.labels_computed)
    assert count(world, TaskRow, TaskRow.kind == "label", TaskRow.state == TaskState.DONE) == 6
    assert count(world, TaskRow, TaskRow.state.in_([TaskState.PENDING, TaskState.LEASED])) == 0
    assert count(world, Candidate, Candidate.state == CandidateState.QUEUED) == 0
    assert count(world, LabelUse, LabelUse.spectral_distance.is_(None)) == 0
