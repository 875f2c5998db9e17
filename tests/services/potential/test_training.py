import numpy as np
import pytest
from tests.services.potential.conftest import SMALL
from tests.services.potential.toys import crystal, labelled

from nearedge_db.errors import UserError
from nearedge_services.potential import Potential, evaluate_potential, train_potential
from nearedge_services.potential.dataset import batches, bootstrap, own_energies
from nearedge_services.potential.evaluation import calibrate
from nearedge_services.potential.training import committee

FEW = SMALL.model_copy(update={"steps": 4, "warm_steps": 2, "channels": 4})


def weights(potential):
    return np.concatenate([value.numpy().ravel() for value in potential.members.state_dict().values()])


def test_learns_the_forces(trained, held_out):
    _, metrics = trained
    size = np.sqrt(np.mean(np.concatenate([atoms.arrays["REF_forces"] for atoms in held_out]) ** 2))
    assert metrics[Potential.HEADLINE] < 0.6 * size
    spread = np.std([atoms.info["REF_energy"] / len(atoms) for atoms in held_out])
    assert metrics["energy_rmse_ev_per_atom"] < spread
    assert all(np.isfinite(list(metrics.values())))


def test_same_seed_same_weights(frames, held_out):
    first, metrics = train_potential(frames, held_out, FEW, seed=1)
    again, same = train_potential(frames, held_out, FEW, seed=1)
    other, _ = train_potential(frames, held_out, FEW, seed=2)
    np.testing.assert_array_equal(weights(first), weights(again))
    assert metrics == same
    assert not np.array_equal(weights(first), weights(other))


def test_members_differ(potential):
    output = potential.evaluate([labelled(8)])[0]
    assert len(output.energies) == 2
    assert output.energy_spread() > 0
    assert output.force_spread().min() > 0


def test_members_trained_apart_make_the_same_committee(frames, held_out):
    """As one call makes it: weights, calibration and metrics."""
    whole, metrics = train_potential(frames, held_out, FEW, seed=1)
    one = FEW.model_copy(update={"members": 1})
    alone = [train_potential(frames, held_out, one, seed=1, first_member=k)[0] for k in range(FEW.members)]
    joined, same = committee(alone, held_out)
    np.testing.assert_array_equal(weights(joined), weights(whole))
    assert joined.calibration == whole.calibration == calibrate(joined, held_out)
    assert same.items() <= metrics.items()
    assert joined.evaluate(held_out)[0].energy_spread() > 0


def test_a_committee_has_members_of_the_same_sizes(frames, held_out):
    small, large = (
        train_potential(frames, held_out, FEW.model_copy(update={"members": 1, "channels": n}), seed=1)[0]
        for n in (4, 5)
    )
    with pytest.raises(ValueError, match="the same sizes"):
        committee([small, large], held_out)


def test_warm_start_goes_on_from_where_it_was(trained, frames, held_out):
    potential, before = trained
    settings = SMALL.model_copy(update={"warm_learning_rate": 1e-3})
    warm, metrics = train_potential(frames, held_out, settings, seed=4, initial=potential)
    assert metrics[Potential.HEADLINE] < 1.15 * before[Potential.HEADLINE]
    assert warm.architecture.model_copy(
        update={"isolated_energies_ev": potential.architecture.isolated_energies_ev}
    ) == (potential.architecture)
    _, fresh = train_potential(frames, held_out, SMALL.model_copy(update={"steps": SMALL.warm_steps}), seed=4)
    assert metrics[Potential.HEADLINE] < fresh[Potential.HEADLINE]


def test_warm_start_refuses_new_elements(potential):
    with pytest.raises(UserError, match="element"):
        train_potential([labelled(0, symbols="SiCSiCSiCSiC")], [], FEW, seed=0, initial=potential)


def test_silicon_carbide(tmp_path):
    structures = [labelled(seed, symbols="SiCSiCSiCSiC") for seed in range(8)]
    potential, _ = train_potential(structures, structures[:2], FEW, seed=0)
    assert potential.elements == ("C", "Si")
    potential.save(tmp_path)
    assert Potential.load(tmp_path).elements == ("C", "Si")
    assert evaluate_potential(potential, structures)["energy_mae_ev_per_atom"] < 5


def test_progress_reaches_the_end(frames, held_out):
    seen = []
    train_potential(
        frames, held_out, FEW, seed=0, progress=lambda fraction, metrics: seen.append((fraction, metrics))
    )
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(np.isfinite(metrics["loss"]) for _, metrics in seen)


def test_unlabelled_and_absurd_structures_are_refused():
    with pytest.raises(UserError, match="REF_energy"):
        train_potential([crystal()], [], FEW, seed=0)
    broken = labelled(0)
    broken.arrays["REF_forces"][0, 0] = np.nan
    with pytest.raises(UserError, match="finite"):
        train_potential([broken], [], FEW, seed=0)
    wild = labelled(0)
    wild.arrays["REF_forces"][0, 0] = 500.0
    with pytest.raises(UserError, match="max_force"):
        train_potential([wild], [], FEW, seed=0)


def test_calibrated_on_the_held_out_set(potential, held_out):
    outputs = potential.evaluate(held_out)
    errors = [
        o.energies.mean() / len(a) - a.info["REF_energy"] / len(a)
        for o, a in zip(outputs, held_out, strict=True)
    ]
    stds = [prediction.energy_std_ev_per_atom for prediction in potential.predict(held_out)]
    assert np.mean(np.square(stds)) == pytest.approx(np.mean(np.square(errors)), rel=1e-3)


def test_own_energies_are_least_squares():
    first, second = labelled(0, symbols="CCCCCCCC"), labelled(1, symbols="CCCCSiSiSiSi")
    first.info["REF_energy"], second.info["REF_energy"] = 8 * -10.0, 4 * -10.0 + 4 * -3.0
    assert own_energies([first, second], (6, 14)) == pytest.approx((-10.0, -3.0))


def test_batches_cover_every_frame_once_an_epoch():
    draws = batches(range(6), 2, np.random.default_rng(0))
    epoch = np.concatenate([next(draws) for _ in range(3)])
    assert sorted(epoch) == list(range(6))


def test_bootstrap_takes_whole_groups():
    groups = [f"g{i // 3}" for i in range(30)]
    chosen = bootstrap(groups, np.random.default_rng(0))
    counts = {i: chosen.count(i) for i in range(30)}
    assert all(counts[3 * k] == counts[3 * k + 1] == counts[3 * k + 2] for k in range(10))
    assert len(set(chosen)) < 30
    assert bootstrap(["a", "a", "b"], np.random.default_rng(0)) == [0, 1, 2]
