"""Training learns the rule behind the labels, the same way for the same seed."""

import numpy as np
import pytest
import torch
from tests.services.surrogate.synthetic import GRID, label, labelled_networks, network, rule

from nearedge_db.errors import UserError
from nearedge_services.structures.coordination import coordination_numbers
from nearedge_services.surrogate.evaluation import evaluate_surrogate
from nearedge_services.surrogate.surrogate import Surrogate
from nearedge_services.surrogate.training import train_surrogate


def weights(surrogate: Surrogate) -> torch.Tensor:
    return torch.cat([value.flatten() for value in surrogate.network.state_dict().values()])


def test_learns_the_rule(trained):
    """The rule is the coordination number: the baseline knows it, the mean spectrum does not."""
    metrics = trained[1]
    assert metrics["cell_mean_rmse"] < 0.35 * metrics["cell_mean_spread"]
    assert metrics[Surrogate.HEADLINE] == metrics["cell_mean_rmse"]
    assert metrics["cell_mean_rmse_baseline"] < 1e-4


def test_metrics_are_finite_and_complete(trained):
    metrics = trained[1]
    assert {"per_atom_mse", "coverage_90", "distance_coverage_90", "distance_mae", "std_mean"} <= set(metrics)
    assert np.isfinite(list(metrics.values())).all()


def test_calibration_covers_networks_never_seen(trained):
    fresh = evaluate_surrogate(trained[0], labelled_networks(16, first=300))
    assert fresh["coverage_90"] == pytest.approx(0.9, abs=0.1)
    assert fresh["distance_coverage_90"] > 0.75


def test_same_seed_same_model(quick_settings):
    settings = quick_settings.model_copy(update={"steps": 5, "noise_aware_steps": 3})
    training, unseen = labelled_networks(6), labelled_networks(3, first=50)
    first, metrics = train_surrogate(training, unseen, settings, seed=4)
    torch.manual_seed(99)  # the global state of the generator must not matter
    second, again = train_surrogate(training, unseen, settings, seed=4)
    other, _ = train_surrogate(training, unseen, settings, seed=5)
    assert torch.equal(weights(first), weights(second))
    assert metrics == again
    assert not torch.equal(weights(first), weights(other))


def test_members_differ(trained):
    members = trained[0].member_cell_means([network(5)], "C")[:, 0]
    assert np.abs(members[0] - members[1]).max() > 1e-5


def test_warm_start_goes_on_from_the_weights(trained, quick_settings):
    surrogate, metrics, training, unseen = trained
    before = weights(surrogate).clone()
    reports: list[float] = []
    again, refined = train_surrogate(
        training,
        unseen,
        quick_settings,
        seed=1,
        initial=surrogate,
        progress=lambda done, _: reports.append(done),
    )
    assert refined["cell_mean_rmse"] < 1.5 * metrics["cell_mean_rmse"]
    assert torch.equal(weights(surrogate), before)
    assert not torch.equal(weights(again), before)
    assert torch.equal(again.network.components, surrogate.network.components)
    assert reports == sorted(reports)
    assert reports[-1] == pytest.approx(1.0)


def test_warm_start_with_other_networks_is_refused(trained, quick_settings):
    surrogate, _, training, unseen = trained
    other = quick_settings.model_copy(update={"channels": 32})
    with pytest.raises(UserError, match="channels"):
        train_surrogate(training, unseen, other, seed=1, initial=surrogate)


def test_two_absorbers(quick_settings):
    """Both elements of a compound have spectra of their own."""
    settings = quick_settings.model_copy(update={"steps": 40, "noise_aware_steps": 0})
    structures = []
    for seed in range(10):
        atoms = network(seed)
        atoms.symbols[::2] = "Si"
        labelled = label(atoms, str(seed))
        labelled.arrays["xanes"][::2] = rule(np.full(len(atoms.numbers[::2]), 1.0))
        labelled.arrays["xanes"][1::2] = rule(np.full(len(atoms.numbers[1::2]), 4.0))
        structures.append(labelled)
    surrogate, _ = train_surrogate(structures[:7], structures[7:], settings, seed=0)
    assert surrogate.absorbers == ("C", "Si")
    means = {e: surrogate.member_cell_means([structures[8]], e).mean((0, 1)) for e in surrogate.absorbers}
    for element, coordination in (("Si", 1), ("C", 4)):
        true = rule(np.array([coordination]))[0]
        assert np.sqrt(np.mean((means[element] - true / (true @ GRID.weights)) ** 2)) < 0.01


@pytest.mark.parametrize("spoil", ["unlabelled", "grid", "empty"])
def test_unfit_data_are_refused(quick_settings, spoil):
    training, unseen = labelled_networks(4), labelled_networks(2, first=50)
    if spoil == "unlabelled":
        training[2] = network(2)
    elif spoil == "grid":
        unseen[1].info["xanes_energies"] = GRID.energies + 0.5
    else:
        unseen = []
    with pytest.raises(UserError):
        train_surrogate(training, unseen, quick_settings, seed=0)


def test_the_synthetic_networks_are_what_they_claim():
    found = np.concatenate([coordination_numbers(network(seed)) for seed in range(8)])
    assert {2, 3, 4} <= set(found.tolist()) <= {1, 2, 3, 4}
