"""A figure of a spectrum for a slide or a paper."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nearedge_db.errors import UserError
from nearedge_services.files import replacing
from nearedge_services.spectra.spectrum import Spectrum

LINE_COLOUR = "#14507a"
FAINT_COLOUR = "#9db8cc"


def plot_spectrum(
    path: str | Path,
    spectrum: Spectrum,
    *,
    members: Sequence[npt.ArrayLike] = (),
    title: str = "",
    normalised: bool = False,
    energy_label: str = "Energy (eV)",
) -> None:
    """Draw a spectrum, over the faint curves of the ensemble it is a mean of (each (P,) on its energies).

    The file's suffix decides the format (png, pdf, svg). Raises UserError when the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, member in enumerate(members):
        label = f"{len(members)} structures" if number == 0 else None
        axes.plot(spectrum.energies_ev, np.asarray(member), color=FAINT_COLOUR, lw=0.8, label=label)
    axes.plot(
        spectrum.energies_ev,
        spectrum.intensity,
        color=LINE_COLOUR,
        lw=2,
        label="mean" if len(members) else None,
    )
    axes.set_xlabel(energy_label, fontsize=13)
    axes.set_ylabel("Intensity (1/eV)" if normalised else "Intensity (arb. units)", fontsize=13)
    axes.tick_params(direction="in", top=True, right=True, labelsize=11)
    axes.set_xlim(*spectrum.range_ev)
    axes.set_ylim(bottom=min(0.0, 1.05 * float(spectrum.intensity.min())))
    if title:
        axes.set_title(title, fontsize=13)
    if len(members):
        axes.legend(frameon=False, fontsize=11)
    try:
        with replacing(path) as partial:
            figure.savefig(partial, dpi=200)
    except OSError as error:
        raise UserError(
            "cannot write the figure", got=f"{path} ({error.strerror})", fix="choose another file"
        ) from None
