"""`make setup` installs what is locked and nothing else."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pins}


def test_everything_the_project_asks_for_is_locked_its_build_included():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["dev"],
    ]
    pins = locked()
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_the_editable_install_fetches_nothing():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    setup = re.search(r"^\$\(READY\):.*?\n\n", makefile, flags=re.DOTALL | re.MULTILINE).group()
    (install,) = re.findall(r".*-e \.", setup)
    assert {"--no-deps", "--no-build-isolation"} <= set(install.split())
