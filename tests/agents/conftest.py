"""A Ray for each module of the agents' tests: none is left running for the tests after them."""

import os

import pytest
import ray

from nearedge_db.database import Database, url_of_run
from nearedge_db.schema import OracleSettings
from nearedge_db.store import create_campaign
from nearedge_services.oracles.factory import make_oracle


@pytest.fixture(scope="module")
def ray_session():
    """A local Ray of two CPUs."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        address="local",  # not the one of another test that runs
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def database(tmp_path):
    """A database with one campaign and the settings of the oracle."""
    database = Database.open(url_of_run(tmp_path))
    oracle = make_oracle("xtb", {})
    with database.begin() as session:
        create_campaign(session, "agents", {}, seed=0, absorber="C")
        session.add(OracleSettings(settings_hash=oracle.settings_hash, oracle=oracle.name, settings_json={}))
    yield database
    database.dispose()
