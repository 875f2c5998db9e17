"""``docs/oracles.md`` names every setting of the oracles with its default."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from nearedge_services.oracles.espresso import EspressoSettings
from nearedge_services.oracles.feff import FeffSettings
from nearedge_services.oracles.gpaw import GpawSettings

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "oracles.md"
ROW = re.compile(
    r"^\| `((?:feff|espresso|gpaw)\.[\w.]+)` \| [^|]+ \| `([^`]*)` \| [^|]+ \|$", flags=re.MULTILINE
)


def fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, object]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, to_jsonable_python(field.get_default(call_default_factory=True))


def test_every_setting_with_its_default():
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    written = {key: yaml.safe_load(default) for key, default in rows}
    settings = {"feff.": FeffSettings, "espresso.": EspressoSettings, "gpaw.": GpawSettings}
    assert written == dict(pair for prefix, model in settings.items() for pair in fields(model, prefix))
    assert len(rows) == len(written)
