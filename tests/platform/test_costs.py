"""What the next label will cost, from the tries in the database."""

from datetime import timedelta

import numpy as np
import pytest
from ase.build import bulk

from nearedge.costs import _one_line, read_cost
from nearedge_db.attempts import AttemptNote, end_attempt, finished_labels
from nearedge_db.database import Database, url_of_run
from nearedge_db.schema import Campaign, OracleSettings, TaskRow
from nearedge_db.states import TaskState
from nearedge_db.store import create_campaign, put_atoms, put_label
from nearedge_db.types import utc_now
from nearedge_services.oracles.leftovers import OUTPUT_IN

ASKED, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def session(tmp_path):
    database = Database.open(url_of_run(tmp_path))
    with database.begin() as session:
        for name in (ASKED, OTHER):
            session.add(OracleSettings(settings_hash=name, oracle="xtb", settings_json={}))
        yield session
    database.dispose()


def label(session, campaign: Campaign, seconds: float, *, settings=ASKED, cells=1, outcome="done", runs=1):
    """A try at a label of 8 atoms times ``cells``; its task."""
    atoms = bulk("C", "diamond", 3.57, cubic=True) * (cells, 1, 1)
    number = session.query(TaskRow).count()
    task = TaskRow(
        campaign_id=campaign.id,
        kind="label",
        identity=f"label:{number}",
        payload_json={},
        state=TaskState.DONE if outcome == "done" else TaskState.QUARANTINED,
        attempts=1,
        started_at=utc_now(),
        structure_id=put_atoms(session, atoms).id,
        settings_hash=settings,
    )
    session.add(task)
    session.flush()
    end_attempt(
        session,
        task,
        outcome,
        task.started_at + timedelta(seconds=seconds),
        note=AttemptNote({}, 0.5 * cells, runs),
    )
    session.flush()
    return task


def test_the_next_label_is_predicted_from_all_campaigns_with_the_same_settings(session):
    mine = create_campaign(session, "mine", {}, seed=1, absorber="C")
    before = create_campaign(session, "before", {}, seed=2, absorber="C")
    assert read_cost(session, mine).predictions == ()
    for _ in range(6):
        label(session, before, 10.0)
        label(session, before, 80.0, cells=2)
    label(session, before, 5000.0, settings=OTHER)
    label(session, mine, 9000.0, outcome="timeout")
    (found,) = read_cost(session, mine).predictions
    assert (found.settings_hash, found.oracle, found.atoms, found.runs) == (ASKED, "xtb", 8, 1)
    assert found.labels == 12
    assert found.gib == pytest.approx(0.5, rel=0.1)
    assert found.gib < found.upper_gib < 2
    assert found.seconds == pytest.approx(10.0, rel=0.2)
    assert found.seconds < found.upper_seconds < 200
    assert len(finished_labels(session, OTHER)) == 1


def test_a_label_that_went_on_with_an_earlier_try_counts_as_a_whole(session):
    """Its last try took a second for what had been left over; the label knows what it took in all."""
    mine = create_campaign(session, "mine", {}, seed=1, absorber="C")
    task = label(session, mine, 1.0, runs=8)
    put_label(
        session,
        task.structure_id,
        ASKED,
        energy_ev=-1.0,
        forces=np.zeros((8, 3)),
        xanes=np.ones((8, 5)),
        energies_ev=np.arange(5.0),
        seconds=80.0,
        task_id=task.id,
    )
    assert finished_labels(session, ASKED) == [(8, 8, 80.0, 0.5)]
    (found,) = read_cost(session, mine).predictions
    assert (found.runs, found.seconds) == (8, pytest.approx(80.0))


def test_failures_of_one_reason_are_counted_together_wherever_their_output_is_kept():
    errors = [f"NotConverged: pw.x: 100 iterations; {OUTPUT_IN}/work/failed/{number}" for number in (1, 2)]
    assert {_one_line(error) for error in errors} == {"NotConverged: pw.x: 100 iterations"}
