"""What is logged is one line of JSON each, whoever writes."""

import json
import logging
import multiprocessing

import pytest
from tests.agents.tending import wait_for

from nearedge_agents.agent import Agent
from nearedge_agents.logs import LONGEST, TASK, Source, attach, logging_to
from nearedge_agents.pool import Pool, Work

logger = logging.getLogger("nearedge.something")


@pytest.fixture
def lines(tmp_path):
    """Reads the one file of this machine."""

    def read() -> list[dict]:
        (path,) = (tmp_path / "logs").iterdir()
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return read


def test_a_line_says_when_who_and_what(tmp_path, lines):
    with logging_to(tmp_path / "logs", Source("film", "labeler", "ab12")):
        TASK.set(7)
        logger.info("density %.1f g/cm³", 2.6, extra={"data": {"seconds": 0.5, "path": tmp_path}})
        TASK.set(None)
    (line,) = lines()
    moment = line.pop("time")
    assert moment.endswith("Z")
    assert len(moment) == len("2026-01-31T12:00:00.000Z")
    assert line == {
        "level": "INFO",
        "campaign": "film",
        "pool": "labeler",
        "actor": "ab12",
        "task": 7,
        "message": "density 2.6 g/cm³",
        "data": {"seconds": 0.5, "path": str(tmp_path)},
    }


def test_an_exception_is_on_the_same_line(tmp_path, lines):
    with logging_to(tmp_path / "logs", Source("film", "driver")):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("broke")
    (line,) = lines()
    assert line["level"] == "ERROR"
    assert line["error"].endswith("ValueError: two\nlines\n")


def test_passwords_are_not_written_and_lines_do_not_grow(tmp_path, lines):
    with logging_to(tmp_path / "logs", Source("film", "driver")):
        logger.warning("no answer from postgresql://me:secret@host/name")
        logger.warning("x" * 2 * LONGEST)
    first, second = lines()
    assert first["message"] == "no answer from postgresql://me:***@host/name"
    assert len(second["message"]) == LONGEST


def test_of_libraries_only_warnings_are_kept_and_their_name_is_said(tmp_path, lines):
    with logging_to(tmp_path / "logs", Source("film", "driver")):
        for level in (logging.INFO, logging.WARNING):
            logging.getLogger("ase.something").log(level, "from a library")
        logger.debug("not this")
    (line,) = lines()
    assert (line["logger"], line["level"]) == ("ase.something", "WARNING")


def test_afterwards_nothing_more_is_written(tmp_path, lines):
    with logging_to(tmp_path / "logs", Source("film", "driver")):
        logger.info("inside")
    logger.info("outside")
    assert [line["message"] for line in lines()] == ["inside"]


def write_many(folder, number):
    attach(folder, Source("film", "labeler", str(number)))
    for index in range(300):
        logger.info("line", extra={"data": {"index": index, "padding": "x" * 500}})


def test_processes_that_write_at_once_do_not_mix_their_lines(tmp_path, lines):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(tmp_path / "logs", number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    written = [(line["actor"], line["data"]["index"]) for line in lines()]
    assert sorted(written) == sorted((str(number), index) for number in range(4) for index in range(300))


@pytest.mark.usefixtures("ray_session")
def test_an_actor_writes_what_it_does_with_its_id(tmp_path, lines):
    folder = tmp_path / "logs"
    pool = Pool("clerk", Agent, 1, {"num_cpus": 0}, campaign="film", logs=folder)
    pool.start()
    wait_for(pool, 1)
    with logging_to(folder, Source("film", "driver")):
        for method in ("__len__", "__hash__"):
            pool.submit(Work(method, (), tag=None))
            while pool.refs:
                done = pool.collect(pool.refs[0])
        pool.resize(0)
    failed, worked, resized = lines()
    assert done.error is None
    assert (failed["level"], failed["message"], failed["pool"]) == ("ERROR", "__len__ failed", "clerk")
    assert "AttributeError" in failed["error"]
    assert worked["message"] == "__hash__ done"
    assert worked["data"]["seconds"] >= 0
    assert worked["actor"] == failed["actor"] != resized["actor"]
    assert (resized["pool"], resized["data"]) == ("driver", {"pool": "clerk", "size": 0, "before": 1})
