"""``docs/configuration.md`` names every setting with its default, and no other; its examples are valid."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from nearedge.campaign import FIXED
from nearedge.config import MODEL_KINDS, CampaignConfig, PoolConfig, load_config
from nearedge.fidelity import ConfirmConfig
from nearedge.preflight import check_model_settings
from nearedge_agents.kinds import make_kind
from nearedge_services.diffusion.settings import SamplerSettings
from nearedge_services.oracles.seed import SeedSettings
from nearedge_services.oracles.xtb import XtbSettings

REQUIRED = "required"
TEXT = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([\w.]+)` \| [^|]+ \| (required|`[^`]*`) \| [^|]+ \|$", flags=re.MULTILINE)
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


def settings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted key and default of every field; sections are entered."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{prefix}{name}.")
        elif field.is_required():
            yield prefix + name, REQUIRED
        else:
            yield prefix + name, to_jsonable_python(field.get_default(call_default_factory=True))


def in_the_code() -> dict[str, Any]:
    found = dict(settings(CampaignConfig, ""))
    del found["pools"]  # a mapping of sections: described by the fields of one
    parts: dict[str, type[BaseModel]] = {
        "pools.NAME.": PoolConfig,
        "confirm.": ConfirmConfig,
        "oracle.settings.": XtbSettings,
        "seeds.settings.": SeedSettings,
        "generation.sampler.": SamplerSettings,
        **{f"models.{kind}.": make_kind(kind).settings for kind in MODEL_KINDS},
    }
    for prefix, model in parts.items():
        found |= dict(settings(model, prefix))
    return found


def in_the_document() -> dict[str, Any]:
    return {
        key: REQUIRED if text == REQUIRED else yaml.safe_load(text.strip("`"))
        for key, text in ROW.findall(TEXT)
    }


def test_every_setting_is_described_once_and_no_other():
    keys = [key for key, _ in ROW.findall(TEXT)]
    assert len(keys) == len(set(keys))
    assert set(in_the_code()) - set(keys) == set(), "add a row to docs/configuration.md"
    assert set(keys) - set(in_the_code()) == set(), "remove the row from docs/configuration.md"


def test_defaults_are_those_of_the_code():
    code, document = in_the_code(), in_the_document()
    assert {key: value for key, value in document.items() if code[key] != value} == {}


def test_what_a_campaign_keeps_is_named():
    (sentence,) = re.findall(r"For life a campaign keeps \*\*(.*?)\*\*", TEXT)
    assert set(re.findall(r"`([\w.]+)`", sentence)) == set(FIXED)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: yaml.safe_load(text)["name"])
def test_examples_are_valid(example, tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(example, encoding="utf-8")
    check_model_settings(load_config(path))


def test_overrides_of_the_document_are_valid():
    (line,) = re.findall(r"^nearedge run examples/quickstart.yaml (.*)$", TEXT, flags=re.MULTILINE)
    overrides = [text.strip("'") for text in re.findall(r"--set ('[^']*'|\S+)", line)]
    assert len(overrides) > 1
    quickstart = Path(__file__).resolve().parents[2] / "examples" / "quickstart.yaml"
    check_model_settings(load_config(quickstart, overrides))
