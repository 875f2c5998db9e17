import tempfile
from pathlib import Path

from nearedge_services.oracles.external import scratch_prefix
from nearedge_services.registry.packaging import save_pyfunc


def test_what_a_killed_process_leaves_of_a_packing_is_swept(model_folder, tmp_path, monkeypatch):
    """Every temporary folder, MLflow's too, lies in one that `sweep` knows."""
    made, make = [], tempfile.mkdtemp

    def watched(*args, **kwargs):
        made.append(Path(make(*args, **kwargs)))
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", watched)
    save_pyfunc(tmp_path / "packed", "potential", model_folder, {})
    own = scratch_prefix("packaging")
    assert len(made) > 1  # MLflow has one of its own
    assert [folder for folder in made if not any(part.startswith(own) for part in folder.parts)] == []
    assert tempfile.tempdir is None or own not in tempfile.tempdir
    assert not any(folder.exists() for folder in made)
