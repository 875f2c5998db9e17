"""How undisturbed short campaigns differ: ``python -m nearedge.bench.chaos.spread SEED …``."""

import sys
import uuid

from nearedge.bench.chaos.bench import SHORT, session
from nearedge.bench.chaos.quality import SPREADS, Spread


def main() -> None:
    """Run them one after another, and print each with the spread of all."""
    found: dict[str, list[float]] = {what: [] for what in SPREADS}
    for seed in map(int, sys.argv[1:]):
        with session(SHORT, seed, uuid.uuid4().hex, lambda share, what: None) as runs:
            outcome = runs.undisturbed(0.0)
        print(f"seed {seed}: {outcome.ratios}, {outcome.seconds:.0f} s", flush=True)
        for what, ratio in outcome.ratios.items():
            if ratio is None:
                raise RuntimeError(f"seed {seed}: no labels for {what}")
            found[what].append(ratio)
    for what, ratios in found.items():
        print(f"{what}: {Spread.of(ratios)}")


if __name__ == "__main__":
    main()
