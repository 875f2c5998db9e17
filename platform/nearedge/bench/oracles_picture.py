"""The picture of the bench ``oracles``."""

from pathlib import Path

import numpy as np

from nearedge.bench.base import BenchResult
from nearedge.bench.oracle_rows import DIAMOND_EV, PI_EV, SIGMA_EV, Crystal
from nearedge.report.style import GUIDED, MUTED, UNGUIDED


def draw(result: BenchResult, path: Path) -> None:
    """Graphite and diamond by every oracle, each aligned once, beside the positions of experiment."""
    from matplotlib.figure import Figure

    crystals = {name: Crystal(**arrays) for name, arrays in result.data["crystals"].items()}
    figure = Figure(figsize=(9, 1.6 * max(2, len(crystals))), layout="constrained")
    axes = np.atleast_1d(figure.subplots(max(1, len(crystals)), 1, sharex=True))
    for axis, (name, crystal) in zip(axes, crystals.items(), strict=False):
        energies = crystal.photon_ev(0.0) + crystal.energies_ev
        axis.plot(energies, crystal.graphite / crystal.graphite.max(), color=GUIDED, label="graphite")
        axis.plot(energies, crystal.diamond / crystal.diamond.max(), color=UNGUIDED, label="diamond")
        for position in (PI_EV, SIGMA_EV, DIAMOND_EV):
            axis.axvline(position, color=MUTED, lw=0.8, ls=":")
        axis.set(ylim=(0, 1.05), yticks=[], xlim=(280, 312))
        axis.set_title(name, fontsize=9, loc="left")
    axes[0].legend(fontsize=8)
    axes[-1].set_xlabel(
        "photon energy (eV), aligned at π* of graphite; dotted: π*, diamond's edge, σ* of experiment"
    )
    figure.savefig(path, dpi=110)
