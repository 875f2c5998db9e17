"""A database that undoes a round, or is away in the middle of one, does not end a campaign."""

import threading
from collections import Counter

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from tests.db.conftest import OwnServer, emptied

from nearedge.bench.loop_world import LoopWorld
from nearedge.conductor import labelling, scoring
from nearedge_db.database import url_of_run
from nearedge_db.schema import AttemptRow, Candidate, Event, Generation, LabelRow, LabelUse, TaskRow
from nearedge_db.states import CandidateState, GenerationState, LabelRole, TaskKind

LABELS, BASELINE = 14, 4
SECTIONS = {
    "material": {"composition": "C16"},
    "seeds": {"count": 5},
    "stop": {"labels": LABELS, "baseline_labels": BASELINE},
}


@pytest.fixture
def make_world(tmp_path):
    worlds = []

    def make(url=None):
        worlds.append(LoopWorld(tmp_path, SECTIONS, url or url_of_run(tmp_path)))
        return worlds[-1]

    yield make
    for world in worlds:
        world.database.dispose()


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL server that can be stopped."""
    pytest.importorskip("pgserver", reason="pgserver is not installed: pip install pgserver")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'nearedge[postgresql]'")
    server = OwnServer()
    yield server
    server.discard()


@pytest.fixture
def url(server):
    """Of an empty database on it."""
    return emptied(server.url)


def _on(server, *statements):
    engine = create_engine(server.url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def disturb(monkeypatch, module, name, calls, disturbance):
    """Before the calls with these numbers (from 0) of a function of a module something happens, which may raise."""
    function, made = getattr(module, name), []

    def disturbed(*args, **kwargs):
        made.append(name)
        if len(made) - 1 in calls:
            disturbance()
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, disturbed)
    return made


def rows(world, table, *conditions):
    with world.database.session() as session:
        return session.query(table).filter(*conditions).all()


def assert_agrees(world, conductor):
    """The store holds a whole campaign, once, and what the conductor knows is what another one would read."""
    uses = Counter(use.role for use in rows(world, LabelUse))
    assert (uses[LabelRole.GUIDED], uses[LabelRole.BASELINE]) == (LABELS, BASELINE)
    assert (conductor.labelling.guided_labels, conductor.labelling.baseline_labels) == (LABELS, BASELINE)
    tasks = rows(world, TaskRow, TaskRow.kind.in_([TaskKind.LABEL, TaskKind.SEED]))
    attempts = Counter(attempt.task_id for attempt in rows(world, AttemptRow))
    assert {attempts[task.id] for task in tasks} == {1}, "none was computed twice"
    assert len({label.structure_id for label in rows(world, LabelRow)}) == len(rows(world, LabelRow))
    states = Counter(candidate.state for candidate in rows(world, Candidate))
    assert states[CandidateState.LABELLED] == LABELS + BASELINE
    assert states[CandidateState.QUEUED] == 0
    assert {one.state for one in rows(world, Generation)} <= {GenerationState.SCORED, GenerationState.CLOSED}
    again = world.conductor()
    again.seeding.start()
    for stage in (again.training, again.proposing, again.scoring, again.labelling):
        stage.start()
    facts = ("guided_labels", "baseline_labels", "best_guided", "since_best")
    assert [getattr(conductor.labelling, fact) for fact in facts] == [
        getattr(again.labelling, fact) for fact in facts
    ]
    assert conductor.scoring.waiting.keys() == again.scoring.waiting.keys()
    assert conductor.scoring.scored_guided == again.scoring.scored_guided
    assert conductor.context.best_distance == again.context.best_distance
    trials = conductor.context.steering.study.get_trials()
    assert [trial.number for trial in trials] == list(range(len(trials)))


def lost(world):
    return len(rows(world, Event, Event.kind == "round lost"))


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        (scoring, "add_candidates", (0, 5, 6)),
        (scoring, "link_structures", (3,)),
        (labelling, "use_label_once", (0, 9, 15)),
        (labelling, "set_candidate_state", (1, 14)),
    ],
)
def test_a_round_that_is_undone_is_done_again(make_world, monkeypatch, module, name, calls):
    def deadlock():
        cause = Exception("database is locked")
        raise OperationalError("INSERT", {}, cause)

    world = make_world()
    made = disturb(monkeypatch, module, name, calls, deadlock)
    conductor = world.conductor()
    assert conductor.run()[1]
    assert len(made) > max(calls)
    assert lost(world) == len(calls)
    assert_agrees(world, conductor)


def test_a_statement_that_is_wrong_is_not_tried_again(make_world, monkeypatch):
    world = make_world()

    def wrong():
        raise OperationalError("INSERT", {}, Exception("no such table"))

    made = disturb(monkeypatch, scoring, "add_candidates", range(100), wrong)
    with pytest.raises(OperationalError, match="no such table"):
        world.conductor().run()
    assert len(made) == 1


def test_connections_that_are_cut_in_the_middle_of_rounds(make_world, monkeypatch, server, url):
    world = make_world(url)

    def cut():
        _on(
            server,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()",
        )

    disturb(monkeypatch, scoring, "add_candidates", (2, 7), cut)
    disturb(monkeypatch, labelling, "use_label_once", (4, 15), cut)
    conductor = world.conductor()
    assert conductor.run()[1]
    assert lost(world) == 4
    assert_agrees(world, conductor)


@pytest.mark.slow
@pytest.mark.parametrize("inside", [True, False])
def test_a_server_that_is_away_for_ten_seconds_in_a_campaign(make_world, monkeypatch, server, url, inside):
    world, timers = make_world(url), []

    def stop():
        server.stop()
        timers.append(threading.Timer(10.0, server.start))
        timers[-1].start()

    if inside:
        disturb(monkeypatch, scoring, "add_candidates", (3,), stop)
    conductor = world.conductor()

    def on_tick():
        if not inside and not timers and conductor.labelling.guided_labels >= 5:
            stop()

    assert conductor.run(on_tick)[1]
    assert len(timers) == 1
    timers[0].join()
    assert lost(world) == inside, "between rounds it is waited for"
    assert_agrees(world, conductor)
