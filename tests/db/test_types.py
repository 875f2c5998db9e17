"""Arrays, enums and hashes."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from nearedge_db.errors import UserError
from nearedge_db.hashing import dataset_hash, settings_hash, structure_hash, task_identity
from nearedge_db.states import CampaignState, CandidateState, TaskState
from nearedge_db.types import decode_array, encode_array

ARRAYS = st.sampled_from(["float64", "float32", "int64", "bool", "<i2"]).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


@given(ARRAYS)
def test_arrays_come_back(array):
    blob = encode_array(array)
    back = decode_array(blob)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(np.load(io.BytesIO(blob), allow_pickle=False), array)


def test_array_layout_does_not_change_the_bytes():
    array = np.arange(12.0).reshape(3, 4)
    assert encode_array(np.asfortranarray(array)) == encode_array(array)


def test_objects_are_refused_both_ways():
    with pytest.raises(ValueError, match="Python objects"):
        encode_array(np.array([{}], dtype=object))
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        decode_array(buffer.getvalue())


@given(npst.arrays("float64", (3, 3), elements=st.floats(-20, 20)), st.integers(0, 2))
def test_structure_hash_ignores_noise_and_the_sign_of_zero(positions, axis):
    positions = np.round(positions, 4)
    numbers, cell = [6, 6, 14], 5.0 * np.eye(3)
    content = structure_hash(numbers, positions, cell)
    assert content == structure_hash(numbers, positions + 4e-6, cell)
    assert content == structure_hash(np.array(numbers, dtype="int32"), positions.tolist(), cell * 1.0)
    assert content == structure_hash(numbers, np.where(positions == 0, -0.0, positions), cell)
    moved = positions.copy()
    moved[0, axis] += 2e-5
    assert content != structure_hash(numbers, moved, cell)
    assert content != structure_hash([6, 14, 6], positions, cell)
    assert content != structure_hash(numbers, positions, cell * 1.001)


def test_structure_hash_refuses_nonsense():
    with pytest.raises(ValueError, match="no structure"):
        structure_hash([6], np.zeros((2, 3)), np.eye(3))
    with pytest.raises(ValueError, match="finite"):
        structure_hash([6], [[np.nan, 0, 0]], np.eye(3))


def test_settings_hash_ignores_order_but_not_values():
    assert settings_hash("xtb", {"a": 1, "b": 2.5}) == settings_hash("xtb", {"b": 2.5, "a": 1})
    assert settings_hash("xtb", {"a": 1}) != settings_hash("gpaw", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        settings_hash("xtb", {"a": float("nan")})


def test_identities():
    assert task_identity("label", "s", "o") == task_identity("label", "s", "o")
    assert task_identity("label", "s", "o").startswith("label:")
    assert task_identity("label", "so") != task_identity("label", "s", "o")
    assert dataset_hash(["b", "a"], "o") == dataset_hash(["a", "b"], "o")


def test_which_states_are_finished():
    assert [state.name for state in TaskState if state.is_finished()] == ["DONE", "QUARANTINED", "CANCELLED"]
    assert not CampaignState.STOPPING.is_finished()
    waiting = [state.name for state in CandidateState if not state.is_finished()]
    assert waiting == ["WAITING", "QUEUED"]


def test_user_errors_cross_process_borders():
    blob = pickle.dumps(UserError("no such file", got="x.csv", fix="give another"))
    error = pickle.loads(blob)  # noqa: S301 - our own bytes
    assert str(error) == "no such file; got x.csv; give another"
