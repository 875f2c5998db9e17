"""A store that was interrupted while it was made."""

import sqlite3
import subprocess
import sys
import time

from nearedge_services.registry.local_store import create_local_store, follow_move
from nearedge_services.registry.model_registry import ModelRegistry


def test_the_store_has_every_table_and_leaves_nothing_beside_it(tmp_path):
    """Made once, kept as it is the second time."""
    path = tmp_path / "a b" / "mlflow.db"
    uri = f"sqlite:///{path}".replace(" ", "%20")
    create_local_store(uri)
    inode = path.stat().st_ino
    create_local_store(uri)
    assert path.stat().st_ino == inode
    assert [entry.name for entry in path.parent.iterdir()] == ["mlflow.db"]
    with sqlite3.connect(path) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"experiments", "runs", "params", "model_versions", "alembic_version"} <= tables


def test_a_kill_while_the_store_is_made_does_not_break_it(tmp_path):
    """MLflow alone leaves half of its tables behind and then never opens again."""
    path = tmp_path / "mlflow.db"
    code = f"""
from nearedge_services.registry.mlflow_library import mlflow_module
from nearedge_services.registry.model_registry import ModelRegistry
mlflow_module()
print("go", flush=True)
ModelRegistry("sqlite:///{path}", "carbon").open()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"go"
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:  # the first bytes of the store
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert not path.exists()
    registry = ModelRegistry(f"sqlite:///{path}", "carbon")
    assert registry.open() == registry.open()


def test_a_moved_store_finds_its_models_and_goes_on(model_folder, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    registry = ModelRegistry(f"sqlite:///{before / 'mlflow.db'}", "carbon")
    metrics = {"force_rmse_ev_per_a": 1.0}
    registry.record_training("potential", model_folder, {}, metrics, "a" * 64)
    del registry
    before.rename(after)
    moved = ModelRegistry(f"sqlite:///{after / 'mlflow.db'}", "carbon")
    found = moved.download("potential", 1, tmp_path / "found")
    assert {path.name for path in found.iterdir()} >= {path.name for path in model_folder.iterdir()}
    moved.record_training("potential", model_folder, {}, metrics, "b" * 64)
    assert not before.exists()
    assert len(list((after / "mlflow-artifacts").iterdir())) == 2
    assert not follow_move(moved.tracking_uri)


def test_a_file_that_is_no_store_is_left_alone(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"nothing of the kind" * 100)
    assert not follow_move(f"sqlite:///{path}")
    assert path.read_bytes() == b"nothing of the kind" * 100
