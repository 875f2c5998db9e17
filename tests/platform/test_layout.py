"""The layout: what must never exist, and how large modules and functions may become."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "platform/nearedge",
    "agents/nearedge_agents",
    "services/nearedge_services",
    "db/nearedge_db",
)
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_LINES_OF_MODULE = 400
MOST_LINES_OF_FUNCTION = 60


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", ["platform", "agents", "services", "db"])
def test_the_folders_of_the_packages_are_no_packages(folder):
    """`platform/__init__.py` would replace the standard library's module wherever the root is on the path."""
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()
    assert not list((ROOT / folder).glob("*.py"))


def test_nothing_else_is_called_platform():
    """A script started from beside such a module crashes."""
    places = [ROOT / package for package in PACKAGES] + [ROOT / "tests"]
    found = [path for place in places for path in place.rglob("platform*") if path.stem == "platform"]
    assert [name(path) for path in found] == ["tests/platform"]
    assert not (ROOT / "tests" / "platform" / "__init__.py").exists()
    assert not (ROOT / "platform.py").exists()


def test_the_standard_librarys_platform_is_found_from_the_root():
    code = "import platform; print(platform.python_version())"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ".".join(str(part) for part in sys.version_info[:3])


@pytest.mark.parametrize("package", ["platform/nearedge", "services/nearedge_services"])
def test_the_layout_in_the_guide_names_every_subpackage(package):
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    layout = guide.partition("## Layout")[2].partition("\n## ")[0]
    found = [path.parent.name for path in (ROOT / package).glob("*/__init__.py")]
    assert found
    assert [folder for folder in found if f"{folder}/" not in layout] == []


def test_there_are_modules_to_look_at():
    assert len(MODULES) > 80
    assert {Path(name(path)).parts[0] for path in MODULES} == {"platform", "agents", "services", "db"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < MOST_LINES_OF_MODULE
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {key: lines for key, lines in lengths.items() if lines >= MOST_LINES_OF_FUNCTION} == {}
