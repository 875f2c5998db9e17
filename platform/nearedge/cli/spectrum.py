"""``nearedge spectrum``: read, transform, convert and plot a spectrum."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console

    from nearedge_services.spectra.spectrum import Spectrum


def spectrum(
    file: Annotated[Path, typer.Argument(help="Columns, CSV, XDI, Athena .xmu/.nor, or a labelled .extxyz.")],
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write CSV: energy_eV,intensity.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a figure (.png, .pdf, .svg).")] = None,
    pre_edge: Annotated[
        str | None, typer.Option(help="LO,HI in eV: subtract the mean of this range.")
    ] = None,
    shift: Annotated[float | None, typer.Option(help="Add this to the energies, eV.")] = None,
    broaden: Annotated[float | None, typer.Option(help="Gaussian standard deviation, eV.")] = None,
    cut: Annotated[str | None, typer.Option(help="LO,HI in eV: keep this range.")] = None,
    normalise: Annotated[bool, typer.Option("--normalise", help="Divide by the area.")] = False,
    absorber: Annotated[str, typer.Option(help="Element whose atoms are averaged (.extxyz).")] = "C",
    frame: Annotated[
        int | None, typer.Option(help="One structure of the .extxyz (from 0); default: all.")
    ] = None,
) -> None:
    """Read a spectrum, transform it, and write it as CSV or as a figure.

    Transformations are applied in the order background, shift, broadening, cut, normalisation, and printed.

    Example: nearedge spectrum DLC.csv --pre-edge 271,280 --shift -283.8 --cut -2,28 --normalise -o target.csv
    """
    from rich.console import Console

    from nearedge.cli.outputs import FIGURES, check_output
    from nearedge_services.spectra.reading import write_spectrum

    if output is not None:
        check_output(output, inputs=[file])
    if plot is not None:
        check_output(plot, FIGURES, inputs=[file])
    if output is not None and output == plot:
        raise UserError("-o and --plot name the same file", got=output, fix="name two files")
    result, members = _read(file, absorber, frame)
    untouched = result
    if pre_edge is not None:
        result = result.without_background(_range(pre_edge, "--pre-edge"))
    if shift is not None:
        result = result.shifted(shift)
    if broaden is not None:
        result = result.broadened(broaden)
    if cut is not None:
        result = result.cut(*_range(cut, "--cut"))
    if normalise:
        result = result.normalised()
    if output is not None:
        write_spectrum(output, result)
    if plot is not None:
        _plot(plot, result, members if result is untouched else [], file, normalise)
    _summarise(Console(highlight=False, soft_wrap=True), result, [path for path in (output, plot) if path])


def _read(file: Path, absorber: str, frame: int | None) -> "tuple[Spectrum, list[npt.NDArray[np.float64]]]":
    """The spectrum of a file, and the cell means it averages when it is a labelled structure file."""
    from nearedge_services.spectra.labelled import label_cell_means, label_spectrum
    from nearedge_services.spectra.reading import read_spectrum
    from nearedge_services.structures.extxyz import read_structures
    from nearedge_services.structures.labelled_by import check_one_oracle

    if file.suffix.lower() not in {".extxyz", ".xyz"}:
        if frame is not None:
            raise UserError("--frame is for structure files", got=file, fix="leave it out")
        return read_spectrum(file), []
    frames = read_structures(file)
    if frame is not None:
        if not -len(frames) <= frame < len(frames):
            raise UserError(
                "no such frame", got=f"{frame} of {len(frames)}", fix=f"choose 0 to {len(frames) - 1}"
            )
        frames = [frames[frame]]
    check_one_oracle(frames, file)
    means = list(label_cell_means(frames, absorber)[1])
    return label_spectrum(frames, absorber), means if len(means) > 1 else []


def _range(text: str, option: str) -> tuple[float, float]:
    """Two numbers, ascending."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(
            f"{option} takes two numbers", got=repr(text), fix=f"write {option} LO,HI in eV"
        ) from error
    if not low < high:
        raise UserError(
            f"{option} takes the lower energy first", got=repr(text), fix=f"write {option} LO,HI in eV"
        )
    return low, high


def _plot(
    path: Path, result: "Spectrum", members: "list[npt.NDArray[np.float64]]", file: Path, normalise: bool
) -> None:
    from nearedge_services.spectra.plotting import plot_spectrum

    from_structures = file.suffix.lower() in {".extxyz", ".xyz"}
    plot_spectrum(
        path,
        result,
        members=members,
        title=file.stem,
        normalised=normalise or from_structures,
        energy_label="Energy above the Fermi level (eV)" if from_structures else "Energy (eV)",
    )


def _summarise(console: "Console", result: "Spectrum", written: list[Path]) -> None:
    low, high = result.range_ev
    console.print(f"{len(result.energies_ev)} points, {low:g} to {high:g} eV, area {result.area():.6g}")
    for step in result.history:
        console.print(f"  {step}", markup=False)
    for path in written:
        console.print(f"wrote {path}", markup=False)
