"""What the tests of the database package share."""

import threading

import numpy as np
from sqlalchemy import func, select

from nearedge_db import store


def in_threads(count, work):
    """Run ``work(i)`` in threads that start together; the results, and what was raised, by thread."""
    barrier = threading.Barrier(count)
    results = [None] * count

    def body(i):
        barrier.wait()
        try:
            results[i] = work(i)
        except Exception as error:  # noqa: BLE001 - handed to the test
            results[i] = error

    threads = [threading.Thread(target=body, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def count(database, table):
    with database.session() as session:
        return session.scalar(select(func.count()).select_from(table))


def write_event(database):
    """A result writer: one event of a campaign that is committed beforehand."""
    with database.begin() as session:
        campaign = store.find_campaign(session, "results")
        if campaign is None:
            campaign = store.create_campaign(session, "results", {}, seed=0, absorber="C")
        campaign_id = campaign.id
    return lambda session, task: store.add_event(session, campaign_id, "result", {"task": task.id})


def add_model(session, campaign_id, kind="surrogate", metrics=None, version=3):
    return store.add_model(
        session,
        campaign_id,
        kind,
        dataset_hash="d" * 64,
        n_train=10,
        n_held_out=2,
        metrics=metrics or {"mse": np.float32(0.5)},
        folder="models/x",
        seed=np.int64(4),
        mlflow_run_id="run-7",
        registered_version=version,
    )
