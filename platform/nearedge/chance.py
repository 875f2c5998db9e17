"""Seeds: every draw of a campaign has its own, derived from the campaign's seed and what the draw is for."""

import hashlib


def seed_for(campaign_seed: int, *purpose: object) -> int:
    """A seed below 2³¹ for one purpose, the same on every machine and in every order of events."""
    text = ":".join(str(part) for part in (campaign_seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def is_held_out(content_hash: str, fraction: float) -> bool:
    """Whether a structure is kept out of training: decided by its content alone."""
    return int(content_hash[:8], 16) / 2**32 < fraction


def stratified(count: int, campaign_seed: int, purpose: str) -> list[float]:
    """``count`` numbers in [0, 1): one uniform draw in each of ``count`` equal parts, in random order."""
    draws = [
        (index + seed_for(campaign_seed, purpose, "place", index) / 2**31) / count for index in range(count)
    ]
    return sorted(draws, key=lambda draw: seed_for(campaign_seed, purpose, "order", draw))
