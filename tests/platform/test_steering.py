"""Optuna in the campaign's own database."""

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import inspect

from nearedge.config import CampaignConfig
from nearedge.steering import PREDICTED, Steering
from nearedge_db.database import Database, url_of_run
from nearedge_db.store import create_campaign, find_campaign

CONFIG = CampaignConfig(
    name="steered",
    seed=4,
    target={"file": "target.csv"},
    material={"composition": "C8", "density_g_cm3": (2.0, 3.0)},
    generation={"guidance_scale": (0.5, 8.0)},
)


def at(density: float, guidance: float) -> dict[str, float]:
    """Settings that a structure was made with."""
    return {"density_g_cm3": density, "guidance_scale": guidance}


@pytest.fixture
def database(tmp_path):
    database = Database.open(url_of_run(tmp_path))
    with database.begin() as session:
        create_campaign(session, "steered", {}, seed=4, absorber="C")
    yield database
    database.dispose()


def test_the_study_lives_beside_the_tables_of_the_campaign(database):
    steering = Steering(CONFIG, database.url)
    steering.tell(steering.ask().trial_number, 0.02)
    names = set(inspect(database.engine).get_table_names())
    assert {"campaigns", "labels", "trials", "studies"} <= names
    reopened = Database.open(database.url)
    with reopened.session() as session:
        assert find_campaign(session, "steered") is not None
    reopened.dispose()


def test_plain_optuna_loads_the_study(database):
    steering = Steering(CONFIG, database.url)
    steering.tell(steering.ask().trial_number, 0.02)
    steering.add_measured("a" * 64, {"density_g_cm3": 2.5}, 0.015, "starting structure")
    study = optuna.load_study(study_name="steered", storage=database.url)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.best_value == 0.015
    assert study.best_trial.user_attrs == {"source": "starting structure", "key": "a" * 64}


def test_asks_stay_inside_the_ranges(database):
    steering = Steering(CONFIG, database.url)
    for _ in range(15):
        settings = steering.ask()
        assert 2.0 <= settings.density_g_cm3 <= 3.0
        assert 0.5 <= settings.guidance_scale <= 8.0
        low, high = CONFIG.generation.spectral_weight_ev
        assert low <= settings.spectral_weight_ev <= high
        steering.tell(settings.trial_number, abs(settings.density_g_cm3 - 2.7))


def test_a_measured_trial_is_added_once(database):
    steering = Steering(CONFIG, database.url)
    for _ in range(2):
        steering.add_measured("k", at(2.5, 1.0), 0.01, "guided")
    steering.add_measured("other", at(2.5, 1.0), 0.01, "guided")
    Steering(CONFIG, database.url).add_measured("k", at(2.5, 1.0), 0.01, "guided")
    assert len(Steering(CONFIG, database.url).study.get_trials()) == 2


@pytest.mark.parametrize(("density", "guidance"), [(1.9, 1.0), (3.1, 1.0), (2.5, 8.5), (2.5, -0.1)])
def test_what_lies_outside_the_ranges_is_left_out(database, density, guidance):
    steering = Steering(CONFIG, database.url)
    assert not steering.add_measured("k", at(density, guidance), 0.01, "guided")
    assert steering.study.get_trials() == []


def test_predicted_and_measured_trials_are_told_apart(database):
    steering = Steering(CONFIG, database.url)
    steering.tell(steering.ask().trial_number, 0.02)
    for _ in range(2):
        assert steering.add_measured("k", at(2.5, 1.0), 0.01, "guided")
    sources = [trial.user_attrs["source"] for trial in steering.study.get_trials()]
    assert sources == [PREDICTED, "guided"]


def test_an_unguided_structure_tells_about_the_density_alone(database):
    steering = Steering(CONFIG, database.url)
    steering.add_measured("k", {"density_g_cm3": 2.5}, 0.01, "starting structure")
    assert steering.study.best_params == {"density_g_cm3": 2.5}


def test_telling_and_giving_up_twice_changes_nothing(database):
    steering = Steering(CONFIG, database.url)
    first, second = steering.ask().trial_number, steering.ask().trial_number
    steering.tell(first, 0.02)
    steering.tell(first, 0.5)
    steering.give_up(first)
    steering.give_up(second)
    steering.tell(second, 0.1)
    trials = steering.study.get_trials()
    assert [(t.state, t.value) for t in trials] == [(TrialState.COMPLETE, 0.02), (TrialState.FAIL, None)]


def test_two_campaigns_of_one_seed_ask_the_same(tmp_path):
    asked = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        steering = Steering(CONFIG, url_of_run(tmp_path / name))
        for index in range(10):
            place = {"density_g_cm3": 2.0 + index / 10}
            steering.add_measured(str(index), place, 0.01 * (index + 1), "starting structure")
        asked.append([steering.ask() for _ in range(3)])
    assert asked[0] == asked[1]


def test_a_continued_campaign_does_not_repeat_itself(database):
    before = [Steering(CONFIG, database.url).ask() for _ in range(4)]
    assert len({settings.density_g_cm3 for settings in before}) == 4
    assert [settings.trial_number for settings in before] == [0, 1, 2, 3]


def test_open_trials_that_nobody_knows_are_closed(database):
    steering = Steering(CONFIG, database.url)
    kept, orphan = steering.ask().trial_number, steering.ask().trial_number
    steering.give_up_orphans({kept})
    states = {trial.number: trial.state for trial in steering.study.get_trials()}
    assert states == {kept: TrialState.RUNNING, orphan: TrialState.FAIL}


def test_better_regions_are_asked_more_often(database):
    """With many measured trials the sampler has learnt which density is good."""
    steering = Steering(CONFIG, database.url)
    for index in range(30):
        density = 2.0 + index / 29
        steering.add_measured(str(index), at(density, 4.0), abs(density - 2.3), "guided")
    asked = []
    for _ in range(12):
        settings = steering.ask()
        asked.append(settings.density_g_cm3)
        steering.tell(settings.trial_number, abs(settings.density_g_cm3 - 2.3))
    assert sum(abs(density - 2.3) < 0.25 for density in asked) >= 8
