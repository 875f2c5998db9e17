"""What the sampler remembers: the best, the latest and the running trials, under the numbers outside."""

from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from nearedge import recollection
from nearedge.recollection import Recollection

X = {"x": FloatDistribution(0.0, 1.0)}


def finished(value):
    return create_trial(params={"x": 0.5}, distributions=X, value=value)


def values(known):
    return [trial.value for trial in known._study.get_trials(deepcopy=False)]


def test_the_worst_of_the_old_ones_are_forgotten(monkeypatch):
    monkeypatch.setattr(recollection, "MOST", 10)
    monkeypatch.setattr(recollection, "BEST", 2)
    monkeypatch.setattr(recollection, "LATEST", 3)
    known = Recollection(RandomSampler(seed=0))
    for value in (5.0, 0.1, 7.0, 0.2, 9.0, 3.0, 4.0, 6.0, 8.0, 2.0):
        known.add(finished(value))
    assert len(known) == 10
    known.add(finished(1.0))
    assert values(known) == [0.1, 0.2, 6.0, 8.0, 2.0, 1.0]
    assert len(known) == 6


def test_a_running_trial_is_never_forgotten_and_ends_under_its_number(monkeypatch):
    monkeypatch.setattr(recollection, "MOST", 4)
    monkeypatch.setattr(recollection, "BEST", 1)
    monkeypatch.setattr(recollection, "LATEST", 1)
    known = Recollection(RandomSampler(seed=0))
    asked = known.ask(X, {"source": "test"}, number=70)
    assert (asked.number, asked.state, asked.user_attrs) == (70, TrialState.RUNNING, {"source": "test"})
    for value in range(12):
        known.add(finished(float(value)))
    assert known.open_numbers() == {70}
    known.finish(70, TrialState.COMPLETE, 0.25)
    assert known.open_numbers() == set()
    assert 0.25 in values(known)
    known.finish(70, TrialState.FAIL, None)
    assert values(known).count(0.25) == 1


def test_the_past_is_taken_up_with_its_running_trials():
    past = []
    for number, trial in enumerate([finished(1.0), create_trial(state=TrialState.RUNNING), finished(2.0)]):
        trial.number = number
        past.append(trial)
    known = Recollection(RandomSampler(seed=0), past)
    assert known.open_numbers() == {1}
    assert values(known) == [1.0, None, 2.0]
