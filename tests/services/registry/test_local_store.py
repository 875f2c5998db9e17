"""A store that was interrupted while it was made."""

import sqlite3
import subprocess
import sys
import time

from nearedge_services.registry.local_store import create_local_store
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
