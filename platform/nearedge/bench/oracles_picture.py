"""The pictures of the bench ``oracles``."""

from pathlib import Path
from typing import Any

import numpy as np

from nearedge.bench.base import BenchResult
from nearedge.bench.oracle_measures import normalised
from nearedge.bench.oracle_rows import DIAMOND_EV, PI_EV, PI_WINDOW_EV, SIGMA_EV, Crystal
from nearedge.report.style import BEST_COLOURS, GUIDED, MUTED, TARGET, UNGUIDED

_SHOWN_EV = (281, 304)
_SERIES_SHOWN_EV = (-2, 20)


def draw(result: BenchResult, path: Path) -> None:
    """Left: graphite and diamond by every oracle, each aligned once. Right: the networks, from sp³ to sp², with the
    crystals that they are compared with.
    """
    from matplotlib.figure import Figure

    crystals = {name: Crystal(**arrays) for name, arrays in result.data["crystals"].items()}
    ends = {name: Crystal(**arrays) for name, arrays in result.data.get("ends", {}).items()}
    networks = result.data.get("networks", {})
    count = max(1, len(crystals))
    figure = Figure(figsize=(10, 1 + 1.5 * count), layout="constrained")
    axes = figure.subplots(count, 2, sharex="col", squeeze=False)
    for row, (name, crystal) in zip(axes, crystals.items(), strict=False):
        energies = crystal.photon_ev(0.0) + crystal.energies_ev
        row[0].plot(energies, crystal.graphite / crystal.graphite.max(), color=TARGET, label="graphite")
        row[0].plot(energies, crystal.diamond / crystal.diamond.max(), color=UNGUIDED, label="diamond")
        for position in (PI_EV, SIGMA_EV, DIAMOND_EV):
            row[0].axvline(position, color=MUTED, lw=0.8, ls=":")
        row[0].set(ylim=(0, 1.08), yticks=[], xlim=_SHOWN_EV)
        row[0].set_title(name, fontsize=9, loc="left")
        if name in networks:
            _draw_networks(row[1], ends[name], networks[name])
        else:
            row[1].set_axis_off()
    figure.supylabel(
        "absorption (left: over its maximum; right: of unit area from π* − 2 to π* + 12.5 eV)", fontsize=9
    )
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=8)
    axes[-1, 0].set_xlabel(
        "photon energy (eV), π* of graphite at 285.4\ndotted: π*, diamond's edge and σ* of experiment"
    )
    lowest = [row[1] for row, name in zip(axes, crystals, strict=False) if name in networks]
    if lowest:
        lowest[-1].set_xlabel(
            "photon energy (eV); a-C from few (pale) to many sp² atoms (dark)\n"
            "thin: crystals calculated alike; dashed: borders of π*"
        )
        lowest[-1].tick_params(labelbottom=True)
    figure.savefig(path, dpi=110)


def _draw_networks(axis: Any, crystal: Crystal, networks: dict[str, Any]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("sp2", BEST_COLOURS[::-1])
    energies = crystal.photon_ev(0.0) + crystal.energies_ev
    for end, colour in ((crystal.graphite, TARGET), (crystal.diamond, UNGUIDED)):
        axis.plot(energies, normalised(crystal, end), color=colour, lw=0.8, zorder=3)
    order = np.argsort(networks["unsaturated"])
    for place, index in enumerate(order):
        spectrum = normalised(crystal, np.asarray(networks["spectra"][index]))
        axis.plot(energies, spectrum, color=colours(place / max(1, len(order) - 1)), lw=1.3)
    axis.set_title(f"{len(order)} networks of {networks['atoms']} atoms", fontsize=9, loc="left")
    for border in PI_WINDOW_EV:
        axis.axvline(PI_EV + border, color=MUTED, lw=0.8, ls="--")
    axis.set(ylim=(0, None), yticks=[], xlim=_SHOWN_EV)


def draw_convergence(result: BenchResult, path: Path) -> None:
    """A panel for every series: its spectra, the last one in black."""
    from matplotlib.figure import Figure

    series = result.data["series"]
    figure = Figure(figsize=(12, 2.4 * ((len(series) + 2) // 3)), layout="constrained")
    axes = figure.subplots((len(series) + 2) // 3, 3, squeeze=False).ravel()
    for axis, one in zip(axes, series, strict=False):
        last = len(one["values"]) - 1
        for number, (value, energies, spectrum) in enumerate(
            zip(one["values"], one["energies_ev"], one["spectra"], strict=True)
        ):
            colour = TARGET if number == last else (UNGUIDED, GUIDED, MUTED)[number % 3]
            axis.plot(energies, spectrum, color=colour, lw=1.2 if number == last else 1.0, label=value)
        start = PI_EV if np.min(one["energies_ev"][0]) > PI_EV / 2 else 0.0
        axis.set(yticks=[], ylim=(0, None), xlim=(start + _SERIES_SHOWN_EV[0], start + _SERIES_SHOWN_EV[1]))
        axis.locator_params(axis="x", nbins=6)
        axis.set_title(one["title"], fontsize=9, loc="left")
        axis.legend(fontsize=7)
    for axis in axes[len(series) :]:
        axis.set_axis_off()
    figure.supxlabel("energy (eV) from the zero of each oracle", fontsize=9)
    figure.savefig(path, dpi=110)
