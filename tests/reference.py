"""Where the reference data live, for the tests that compare with them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def reference_path(name: str) -> Path:
    """Path of one file or folder of the reference data; skips the test where it is absent."""
    path = ROOT.parent / "shared" / "reference" / name
    if not path.exists():
        pytest.skip(f"reference data not beside the checkout: ../shared/reference/{name}")
    return path
