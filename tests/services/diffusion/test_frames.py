import numpy as np
import pytest
from ase import Atoms

from nearedge_services.diffusion.frames import FrameDraws, frame_weights


def frame(count=4, group=None, energy=None):
    atoms = Atoms(f"C{count}", positions=np.zeros((count, 3)), cell=[5] * 3, pbc=True)
    if group is not None:
        atoms.info["group"] = group
    if energy is not None:
        atoms.info["REF_energy"] = energy
    return atoms


def test_groups_weigh_the_same_and_low_energy_frames_more():
    frames = [frame(group="a", energy=-40.0), frame(group="a", energy=-39.6), frame(group="b", energy=-30.0)]
    weights = frame_weights(frames, temperature_ev=0.1)
    assert weights.sum() == pytest.approx(1)
    assert weights[2] == pytest.approx(0.5)
    assert weights[1] / weights[0] == pytest.approx(np.exp(-1))


def test_frames_without_group_or_energy_are_equal():
    assert frame_weights([frame(), frame(), frame(group="a"), frame(group="a")], 0.1) == pytest.approx(
        [1 / 3, 1 / 3, 1 / 6, 1 / 6]
    )


def test_draws_follow_the_weights_and_keep_one_size():
    frames = [frame(4), frame(4), frame(8)]
    weights = np.array([0.5, 0.25, 0.25])
    draws = FrameDraws(frames, weights, 16, np.random.default_rng(0))
    steps = [draws.draw() for _ in range(2000)]
    assert {len(step) for step in steps if step[0] < 2} == {4}
    assert {len(step) for step in steps if step[0] == 2} == {2}
    small = np.concatenate([step for step in steps if step[0] < 2])
    assert np.mean(small == 0) == pytest.approx(2 / 3, abs=0.02)
    assert np.mean([step[0] == 2 for step in steps]) == pytest.approx(0.25, abs=0.04)


def test_a_step_has_one_structure_at_least():
    draws = FrameDraws([frame(50)], np.ones(1), 8, np.random.default_rng(0))
    assert draws.draw().tolist() == [0]
