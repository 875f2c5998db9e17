"""The labeler: result and DONE together, and never the same work twice."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from ase import Atoms
from ase.build import bulk
from sqlalchemy import func, select
from tests.agents.tending import wait_for

from nearedge_agents.labeler import Labeler
from nearedge_agents.pool import Pool, Work
from nearedge_agents.worker import TaskReport
from nearedge_db.database import Database, url_of_run
from nearedge_db.errors import UserError
from nearedge_db.hashing import task_identity
from nearedge_db.ledger import Ledger, Task
from nearedge_db.schema import AttemptRow, LabelRow, OracleSettings
from nearedge_db.states import TaskKind, TaskState
from nearedge_db.store import create_campaign, get_label, get_structure, put_atoms
from nearedge_services.oracles.cost_model import FEWEST_FOR_LIMIT, FIRST_LIMIT_S, FIRST_SEED_LIMIT_S
from nearedge_services.oracles.errors import MissingData, NotConverged
from nearedge_services.oracles.external import Session
from nearedge_services.oracles.factory import make_oracle

SETTINGS_HASH = make_oracle("xtb", {}).settings_hash


def diamond(seed: int = 0) -> Atoms:
    """Eight atoms, a little out of place."""
    atoms = bulk("C", "diamond", 3.57, cubic=True)
    atoms.rattle(0.03, seed=seed)
    return atoms


def label_task(database, atoms: Atoms) -> Task:
    """A label task of that structure, as the campaign submits it."""
    with database.begin() as session:
        structure = put_atoms(session, atoms)
    return Ledger(database).submit(
        TaskKind.LABEL,
        task_identity(TaskKind.LABEL, structure.hash, SETTINGS_HASH),
        {},
        campaign_id=1,
        structure_id=structure.id,
        settings_hash=SETTINGS_HASH,
    )


def seed_task(database, **payload) -> Task:
    """A task that makes a starting structure of eight atoms, quickly."""
    payload = {
        "composition": "C8",
        "density_g_cm3": 2.4,
        "seed": 5,
        "settings": {
            "relax_steps": 2,
            "path_frames": 1,
            "melt_quench": {"melt_steps": 20, "quench_steps": 50, "relax_steps": 20},
        },
        **payload,
    }
    identity = task_identity(TaskKind.SEED, payload, SETTINGS_HASH)
    return Ledger(database).submit(
        TaskKind.SEED, identity, payload, campaign_id=1, settings_hash=SETTINGS_HASH
    )


def labels(database) -> int:
    with database.session() as session:
        return session.scalar(select(func.count()).select_from(LabelRow))


def test_a_label_and_done_are_written_together(database):
    task = label_task(database, diamond())
    labeler = Labeler(database.url, "xtb", {})
    assert labeler.work(task.id) == TaskReport(task.id, TaskState.DONE)
    done = labeler.ledger.get(task.id)
    assert done.owner == labeler.owner
    assert done.attempts == 1
    assert done.seconds > 0
    with database.session() as session:
        label = get_label(session, task.structure_id, SETTINGS_HASH)
        assert label.task_id == task.id
        assert label.forces.shape == (8, 3)
        assert label.xanes.shape == (8, 121)
    expected = make_oracle("xtb", {}).label(diamond())
    assert label.energy_ev == pytest.approx(expected.energy_ev, abs=1e-6)
    np.testing.assert_allclose(label.xanes, expected.xanes, rtol=1e-3, atol=1e-5)


def test_a_second_oracle_labels_under_its_own_name(database):
    """xtb screens and xtb with a core hole confirms: two labels of one structure, neither in place of the other."""
    confirm = ("xtb", {"core_hole": "z+1"})
    dear = make_oracle(*confirm)
    with database.begin() as session:
        session.add(OracleSettings(settings_hash=dear.settings_hash, oracle="xtb", settings_json={}))
    cheap_task = label_task(database, diamond())
    dear_task = Ledger(database).submit(
        TaskKind.LABEL,
        "dear",
        {},
        campaign_id=1,
        structure_id=cheap_task.structure_id,
        settings_hash=dear.settings_hash,
    )
    labeler = Labeler(database.url, "xtb", {}, confirm=confirm)
    reports = [labeler.work(task.id) for task in (cheap_task, dear_task)]
    assert [report.state for report in reports] == [TaskState.DONE] * 2
    with database.session() as session:
        cheap = get_label(session, cheap_task.structure_id, SETTINGS_HASH)
        other = get_label(session, cheap_task.structure_id, dear.settings_hash)
    expected = dear.label(diamond())
    np.testing.assert_allclose(other.xanes, expected.xanes, rtol=1e-3, atol=1e-4)
    assert np.abs(other.xanes - cheap.xanes).max() > 0.05
    with pytest.raises(MissingData, match="not the same on this node"):
        Labeler(database.url, "xtb", {}).result(dear_task)


def test_a_result_that_cannot_be_written_leaves_neither_label_nor_done(database, monkeypatch):
    task = label_task(database, diamond())
    labeler = Labeler(database.url, "xtb", {})
    write = labeler.result

    def result(task):
        inner = write(task)

        def broken(session, done):
            inner(session, done)
            raise OSError("disk full")

        return broken

    monkeypatch.setattr(labeler, "result", result)
    with pytest.raises(OSError, match="disk full"):
        labeler.work(task.id)
    assert labels(database) == 0
    waiting = labeler.ledger.get(task.id)
    assert waiting.state is TaskState.PENDING
    assert waiting.attempts == 0


def test_absorbers_are_kept_until_the_label_is_stored(database, monkeypatch, tmp_path):
    """Whoever does it again after a kill in between calculates none of them."""
    monkeypatch.setenv("NEAREDGE_WORK", str(tmp_path / "work"))
    settings = {"core_hole": "z+1"}
    hole = make_oracle("xtb", settings)
    with database.begin() as session:
        session.add(OracleSettings(settings_hash=hole.settings_hash, oracle="xtb", settings_json=settings))
        structure = put_atoms(session, diamond())
    columns = {"structure_id": structure.id, "settings_hash": hole.settings_hash}
    task = Ledger(database).submit(TaskKind.LABEL, "hole", {}, campaign_id=1, **columns)
    labeler = Labeler(database.url, "xtb", settings)
    with monkeypatch.context() as patch:
        patch.setattr(labeler.ledger, "complete", raiser(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            labeler.work(task.id)
    (folder,) = (tmp_path / "work").iterdir()
    assert len(list(folder.iterdir())) == 8
    with monkeypatch.context() as patch:
        patch.setattr("nearedge_services.oracles.xtb._excited", raiser(RuntimeError("calculated again")))
        assert labeler.work(task.id).state is TaskState.DONE
    assert list((tmp_path / "work").iterdir()) == []


def raiser(error: Exception):
    def broken(*_):
        raise error

    return broken


def test_a_bad_geometry_is_quarantined_with_its_reason(database):
    atoms = diamond()
    atoms.positions[1] = atoms.positions[0] + 0.1
    task = label_task(database, atoms)
    report = Labeler(database.url, "xtb", {}).work(task.id)
    assert report.state is TaskState.QUARANTINED
    assert report.error.startswith("BadGeometry: atoms overlap")
    assert labels(database) == 0


@pytest.mark.parametrize("broken", ["label", "runs"])
def test_settings_that_do_not_fit_one_structure_end_that_label_only(database, monkeypatch, broken):
    tasks = [label_task(database, diamond(seed)) for seed in (0, 1)]
    labeler = Labeler(database.url, "xtb", {})

    def refuse(*_):
        raise UserError("the edge lies below the zero", got="270 eV", fix="set zero_ev near 270")

    with monkeypatch.context() as patch:
        patch.setattr(type(labeler.oracle), broken, refuse, raising=False)
        report = labeler.work(tasks[0].id)
    assert report.state is TaskState.QUARANTINED
    assert report.error == "UnfitSettings: the edge lies below the zero; got 270 eV; set zero_ev near 270"
    assert labeler.ledger.get(tasks[0].id).attempts == 1
    assert labeler.work(tasks[1].id).state is TaskState.DONE


def test_a_run_that_does_not_converge_is_tried_again_then_set_aside(database):
    settings = {"max_iterations": 1}
    hard = make_oracle("xtb", settings)
    with database.begin() as session:
        session.add(OracleSettings(settings_hash=hard.settings_hash, oracle="xtb", settings_json=settings))
        structure = put_atoms(session, diamond())
    task = Ledger(database).submit(
        TaskKind.LABEL,
        "hard",
        {},
        campaign_id=1,
        max_attempts=2,
        structure_id=structure.id,
        settings_hash=hard.settings_hash,
    )
    labeler = Labeler(database.url, "xtb", settings)
    reports = [labeler.work(task.id) for _ in range(3)]
    assert [report.state for report in reports] == [
        TaskState.RETRY,
        TaskState.QUARANTINED,
        TaskState.QUARANTINED,
    ]
    assert "NotConverged" in reports[0].error


def test_the_next_try_climbs_the_ladder_whoever_makes_it(database):
    """The rung follows from the tries in the database; label and try say what was changed."""
    settings = {"max_iterations": 4}  # too few from scratch; four times as many suffice
    asked = make_oracle("xtb", settings)
    with database.begin() as session:
        session.add(OracleSettings(settings_hash=asked.settings_hash, oracle="xtb", settings_json=settings))
        structure = put_atoms(session, diamond())
    task = Ledger(database).submit(
        TaskKind.LABEL,
        "hard",
        {},
        campaign_id=1,
        structure_id=structure.id,
        settings_hash=asked.settings_hash,
    )
    states = [Labeler(database.url, "xtb", settings).work(task.id).state for _ in range(2)]
    assert states == [TaskState.RETRY, TaskState.DONE]
    with database.session() as session:
        label = get_label(session, structure.id, asked.settings_hash)
        tries = list(session.scalars(select(AttemptRow).order_by(AttemptRow.number)))
    assert label.details_json["changed_settings"] == {"max_iterations": 16}
    assert [(one.outcome, one.changes_json) for one in tries] == [
        ("not converged", {}),
        ("done", {"max_iterations": 16}),
    ]
    assert all(0.01 < one.peak_gib < 10 for one in tries)
    assert [one.runs for one in tries] == [1, 1]


def test_what_is_finished_is_kept_under_what_was_asked_for_on_every_rung(database, monkeypatch):
    """A try on another rung goes on with it, and a label that was asked for as that rung is does not."""
    task, folders = label_task(database, diamond()), []

    def fails(oracle, atoms):
        folders.append(oracle.finished(atoms).folder)
        raise NotConverged(f"within {oracle.settings.max_iterations}")

    monkeypatch.setattr("nearedge_services.oracles.xtb.XtbOracle.label", fails)
    reports = [Labeler(database.url, "xtb", {}).work(task.id) for _ in range(2)]
    assert reports[0].error != reports[1].error
    assert folders[0] == folders[1] == make_oracle("xtb", {}).finished(diamond()).folder
    assert make_oracle("xtb", {"max_iterations": 1000}).finished(diamond()).folder not in folders


def test_what_nobody_foresaw_is_a_crash_that_is_tried_again_once(database, monkeypatch):
    task = label_task(database, diamond())
    labeler = Labeler(database.url, "xtb", {})
    monkeypatch.setattr(labeler.oracle, "label", lambda _: {}["no such key"])
    reports = [labeler.work(task.id) for _ in range(2)]
    assert [report.state for report in reports] == [TaskState.RETRY, TaskState.QUARANTINED]
    assert reports[0].error == "OracleCrash: KeyError: 'no such key'"


def test_work_on_a_cancelled_task_is_ended(database, monkeypatch):
    """The programs under an oracle end once the lease is gone; nothing is written."""
    task = label_task(database, diamond())
    labeler = Labeler(database.url, "xtb", {})
    monkeypatch.setattr("nearedge_agents.worker.LEASE_S", 0.3)

    def runs_a_program(_):
        labeler.ledger.cancel(task.id)
        with Session("test") as session:
            session.run(["sleep", "600"])

    monkeypatch.setattr(labeler.oracle, "label", runs_a_program)
    assert labeler.work(task.id).state is TaskState.CANCELLED
    with database.session() as session:
        assert [row.outcome for row in session.scalars(select(AttemptRow))] == ["cancelled"]


def with_programs(seconds):
    """An oracle whose programs can be ended, as far as limits are concerned; xtb runs none."""
    run = SimpleNamespace(seconds=seconds)
    return SimpleNamespace(name="xtb", settings=SimpleNamespace(run=run), settings_hash=SETTINGS_HASH)


def test_programs_that_take_far_longer_than_labels_so_far_are_ended(database, monkeypatch):
    monkeypatch.setattr("nearedge_services.oracles.cost_model.SHORTEST_LIMIT_S", 0.0)
    labeler = Labeler(database.url, "xtb", {})
    for index in range(FEWEST_FOR_LIMIT):
        assert labeler.work(label_task(database, diamond(index)).id).state is TaskState.DONE
    task = label_task(database, diamond(99))
    assert labeler._limit_s(labeler.oracle, task, 8) is None
    assert 0 < labeler._limit_s(with_programs(None), task, 8) < 3600
    assert labeler._limit_s(with_programs(None), task) == FIRST_SEED_LIMIT_S


@pytest.mark.parametrize("minutes", [None, 60.0])
def test_before_anything_is_learnt_there_is_a_limit_that_grows_with_time_outs(database, monkeypatch, minutes):
    labeler, task = Labeler(database.url, "xtb", {}, minutes), label_task(database, diamond())
    first, of_a_seed = (FIRST_LIMIT_S, FIRST_SEED_LIMIT_S) if minutes is None else (3600.0, 3600.0)
    failures = []
    monkeypatch.setattr(labeler, "_failures", lambda _: failures)
    for atoms, limit in ((8, first), (None, of_a_seed)):
        assert labeler._limit_s(with_programs(None), task, atoms) == limit
        # what the user set holds
        assert labeler._limit_s(with_programs(7200.0), task, atoms) == (None if minutes is None else 3600.0)
    failures += ["timeout", "not converged"]
    assert labeler._limit_s(with_programs(None), task, 8) == 3 * first


def test_the_user_s_limit_ends_a_label_which_climbs_the_ladder(database, monkeypatch):
    """The next try has three times as long; there is none after that."""
    labeler, task = Labeler(database.url, "xtb", {}, 0.01), label_task(database, diamond())
    monkeypatch.setattr("nearedge_agents.labeler.is_limited", lambda _: True)

    def hangs(_):
        with Session("test") as session:
            session.run(["sleep", "600"])

    monkeypatch.setattr(labeler.oracle, "label", hangs)
    reports = [labeler.work(task.id) for _ in range(2)]
    assert [report.state for report in reports] == [TaskState.RETRY, TaskState.QUARANTINED]
    assert all("OracleTimeout: sleep: not finished after" in report.error for report in reports)


@pytest.mark.parametrize("mended", [True, False])
@pytest.mark.parametrize("spoilt", ["energy_ev", "forces_ev_per_a", "xanes"])
def test_what_an_oracle_returns_is_not_believed(database, spoilt, mended):
    """Whatever the oracle itself looks at: garbage never becomes a label, and is no reason to go without one."""
    task = label_task(database, diamond())
    labeler = Labeler(database.url, "xtb", {})
    real = labeler.oracle.label(diamond())

    class Garbling(type(labeler.oracle)):
        def label(self, atoms):
            return replace(real, **{spoilt: getattr(real, spoilt) * np.nan})

    whole, labeler.oracle = labeler.oracle, Garbling(labeler.oracle.settings)
    report = labeler.work(task.id)
    assert report.state is TaskState.RETRY
    assert "not finite" in report.error
    assert labels(database) == 0
    labeler.oracle = whole if mended else labeler.oracle
    assert labeler.work(task.id).state is (TaskState.DONE if mended else TaskState.QUARANTINED)
    assert labels(database) == mended


def test_a_label_of_the_wrong_shape_is_tried_again(database):
    task = label_task(database, diamond())
    labeler = Labeler(database.url, "xtb", {})
    real = labeler.oracle.label(diamond())

    class Shortening(type(labeler.oracle)):
        def label(self, atoms):
            return replace(real, xanes=real.xanes[:-1])

    whole, labeler.oracle = labeler.oracle, Shortening(labeler.oracle.settings)
    report = labeler.work(task.id)
    assert report.state is TaskState.RETRY
    assert "(7, 121) instead of (8, 121)" in report.error
    assert labels(database) == 0
    labeler.oracle = whole
    assert labeler.work(task.id).state is TaskState.DONE


def test_a_finished_task_is_reported_not_repeated(database):
    task = label_task(database, diamond())
    labeler = Labeler(database.url, "xtb", {})
    labeler.work(task.id)
    assert labeler.work(task.id).state is TaskState.DONE
    assert labeler.ledger.get(task.id).attempts == 1


def test_a_task_of_other_settings_is_not_done(database):
    task = label_task(database, diamond())
    states = []
    for _ in range(3):
        labeler = Labeler(database.url, "xtb", {"sigma_ev": 0.9})
        report = labeler.work(task.id)
        states.append(report.state)
        assert "not the same on this node" in report.error
        assert labeler.leaves
    assert states == [TaskState.RETRY, TaskState.RETRY, TaskState.QUARANTINED]
    assert labels(database) == 0


def test_a_labeler_whose_files_are_others_than_the_campaigns_cannot_be_made(database):
    """It takes no task from those that can do it."""
    assert not Labeler(database.url, "xtb", {}, hashes=[SETTINGS_HASH]).leaves
    with pytest.raises(MissingData, match="not the same on this node"):
        Labeler(database.url, "xtb", {}, hashes=[SETTINGS_HASH, "that of the second oracle"])


def test_what_one_node_lacks_is_tried_on_another(database, monkeypatch):
    task = label_task(database, diamond())
    lacking, whole = (Labeler(database.url, "xtb", {}) for _ in range(2))

    def no_program(_):
        raise MissingData("cannot start pw.x")

    monkeypatch.setattr(lacking.oracle, "label", no_program)
    assert lacking.work(task.id).state is TaskState.RETRY
    assert lacking.perform("work", task.id).leaves
    outcome = whole.perform("work", task.id)
    assert (outcome.value.state, outcome.leaves) == (TaskState.DONE, False)


def test_a_program_that_has_gone_before_the_next_rung_is_missing_data(database, monkeypatch):
    labeler, task = Labeler(database.url, "xtb", {"max_iterations": 1}), label_task(database, diamond())
    monkeypatch.setattr(labeler, "_failures", lambda _: ["not converged"])

    def refuse(*_):
        raise UserError("pw.x is not installed")

    monkeypatch.setattr("nearedge_agents.labeler.make_oracle", refuse)
    with pytest.raises(MissingData, match=r"pw\.x"):
        labeler._climbed(labeler.oracle, task)


def test_a_seed_task_remembers_its_frames(database):
    task = seed_task(database)
    labeler = Labeler(database.url, "xtb", {})
    assert labeler.work(task.id).state is TaskState.DONE
    frames = labeler.ledger.get(task.id).payload["frames"]
    assert len(frames) > 1
    assert frames[-1]["origin"] == "seed"
    with database.session() as session:
        for frame in frames:
            label = get_label(session, frame["structure_id"], SETTINGS_HASH)
            assert label.id == frame["label_id"]
            assert label.task_id == task.id
            assert get_structure(session, frame["structure_id"]).density_g_cm3 == pytest.approx(2.4)


def test_the_same_seed_gives_the_same_structures(database, tmp_path):
    other = Database.open(url_of_run(other_folder(tmp_path)))
    with other.begin() as session:
        create_campaign(session, "other", {}, seed=9, absorber="C")
        session.add(OracleSettings(settings_hash=SETTINGS_HASH, oracle="xtb", settings_json={}))
    hashes = []
    for place in (database, other):
        task = seed_task(place)
        Labeler(place.url, "xtb", {}).work(task.id)
        with place.session() as session:
            frames = Ledger(place).get(task.id).payload["frames"]
            hashes.append([get_structure(session, frame["structure_id"]).hash for frame in frames])
    other.dispose()
    assert hashes[0] == hashes[1]
    assert labels(database) == len(hashes[0])


def other_folder(folder: Path) -> Path:
    """A second place for a database."""
    (folder / "other").mkdir()
    return folder / "other"


@pytest.fixture
def labelers(ray_session, database):
    """Two labelers on Ray."""
    pool = Pool("labeler", Labeler, 2, {"num_cpus": 0}, (database.url, "xtb", {}))
    pool.start()
    yield wait_for(pool, 2)
    pool.stop()


def reports(pool: Pool, count: int) -> list[TaskReport]:
    found = []
    for _ in range(count):
        ready, _ = ray.wait(pool.refs, num_returns=1, timeout=60)
        done = pool.collect(ready[0])
        assert done.error is None, done.error
        found.append(done.value)
    return found


def test_two_labelers_on_one_task_compute_it_once(database, labelers):
    for index in range(3):
        task = label_task(database, diamond(index))
        for _ in range(2):
            labelers.submit(Work("work", (task.id,), tag=task.id))
        states = {report.state for report in reports(labelers, 2)}
        assert TaskState.DONE in states
        assert states <= {TaskState.DONE, TaskState.LEASED}
        assert Ledger(database).get(task.id).attempts == 1
    assert labels(database) == 3


def test_a_labeler_killed_at_work_leaves_a_lease_that_ends_with_it(database, labelers):
    slow = seed_task(database, settings={"melt_quench": {"melt_steps": 200_000}})
    labelers.submit(Work("work", (slow.id,), tag=slow.id))
    ledger = Ledger(database)
    deadline = time.monotonic() + 180
    while (held := ledger.get(slow.id)).state is not TaskState.LEASED and time.monotonic() < deadline:
        time.sleep(0.05)
    _host, pid, _birth, mark = held.owner.split("|")
    assert ledger.lease("another", task_id=slow.id) is None
    os.kill(int(pid), signal.SIGKILL)
    ready, _ = ray.wait(labelers.refs, timeout=30)
    done = labelers.collect(ready[0])
    assert done.lost
    assert done.actor == mark  # the driver gives the lease up by it, wherever the actor was
    deadline = time.monotonic() + 30  # Ray knows it a moment before the process has quite gone
    while (taken := ledger.lease("another", task_id=slow.id)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert taken.owner == "another"
    assert taken.attempts == 2
