"""The files that define a campaign: what they hold decides whether it is the same campaign, not where they lie.

A job submitted again unpacks them into another folder; a moved checkout has them elsewhere too.
"""

import hashlib
from pathlib import Path
from typing import Any

from nearedge.config import CampaignConfig
from nearedge_db.errors import UserError

TARGET_SHA256, SEEDS_SHA256 = "target_sha256", "seeds_sha256"
"""Keys beside the stored settings: SHA-256 of the two files; campaigns of before have one or none."""

_SECTIONS = {TARGET_SHA256: "target", SEEDS_SHA256: "seeds"}


def hashes(config: CampaignConfig) -> dict[str, str]:
    """SHA-256 of the target file and, where there is one, of the file with the starting structures."""
    files = {TARGET_SHA256: config.target.file, SEEDS_SHA256: config.seeds.file}
    return {key: _sha256(path) for key, path in files.items() if path is not None}


def without_hashes(record: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stored record."""
    return {key: value for key, value in record.items() if key not in _SECTIONS}


def follow(before: dict[str, Any], now: dict[str, Any], old: dict[str, Any], new: dict[str, str]) -> None:
    """Let the settings ``before`` name the files of ``now`` where their hashes, ``old`` and ``new``, agree."""
    for key, section in _SECTIONS.items():
        if key in new and old.get(key) == new[key]:
            before[section]["file"] = now[section]["file"]


def check_same(name: str, now: dict[str, Any], old: dict[str, Any], new: dict[str, str]) -> None:
    """Raises UserError where a file of a campaign has another content than when the campaign began."""
    for key, section in _SECTIONS.items():
        before, sha256 = old.get(key), new.get(key)
        if before is not None and sha256 is not None and before != sha256:
            raise UserError(
                f"the {section} file of campaign {name!r} has changed since the campaign began",
                got=f"{now[section]['file']} with SHA-256 {sha256[:12]}…, it had {before[:12]}…",
                fix="put the file back to continue it, or choose another name or --dir",
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
