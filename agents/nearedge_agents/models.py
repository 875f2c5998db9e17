"""Model weights on their way to the actors: as bytes, so that no shared file system is assumed."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearedge_agents.device import own_device
from nearedge_agents.kinds import make_kind
from nearedge_services.oracles.external import scratch_prefix


@dataclass(frozen=True)
class ModelFiles:
    """One trained model: its row in the database and its files (safetensors and JSON, a few hundred kilobytes)."""

    kind: str
    model_id: int
    files: dict[str, bytes]

    @classmethod
    def read(cls, kind: str, model_id: int, folder: Path) -> "ModelFiles":
        """Read every file below ``folder``. Raises FileNotFoundError where there is none."""
        files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        if not files:
            raise FileNotFoundError(f"no model files in {folder}")
        return cls(kind, model_id, files)


class ModelCache:
    """Keeps the newest model of each kind loaded in this process, on the device that it has."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[int, Any]] = {}
        self._device = own_device()

    def get(self, model: ModelFiles) -> Any:
        """The loaded model; loads it when this process does not hold this very version."""
        held = self._loaded.get(model.kind)
        if held is None or held[0] != model.model_id:
            held = (model.model_id, _load(model).to(self._device))
            self._loaded[model.kind] = held
        return held[1]


def _load(model: ModelFiles) -> Any:
    with tempfile.TemporaryDirectory(prefix=scratch_prefix("model")) as name:
        folder = Path(name)
        for relative, content in model.files.items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return make_kind(model.kind).load(folder)
