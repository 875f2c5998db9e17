"""Bench ``oracles``: carbon's known spectra by every oracle that is installed, and how alike they rank structures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nearedge.bench.base import BenchOptions, BenchResult, Report, Row
from nearedge.bench.oracle_cases import CASES, SERIES, SHORT_CASES, Case, Series
from nearedge.bench.oracle_networks import make_or_read_networks, rank_networks
from nearedge.bench.oracle_rows import PI_EV, Crystal, absent_rows, crystal_rows, pi_of, series_rows, shown
from nearedge.bench.oracle_spectra import Spectra, SpectraFolder


class OraclesBench:
    """Graphite and diamond beside experiment, amorphous networks beside gpaw, and convergence.

    ``cases`` and ``series``: what is calculated, by name; default: all. The short form has cases of its own, and
    neither networks nor series.
    """

    name = "oracles"

    def __init__(
        self, cases: Mapping[str, Case] | None = None, series: Sequence[Series] | None = None
    ) -> None:
        self.cases = cases
        self.series = series

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """Calculate what is not kept from before in the output folder.

        ``options.reference``: networks of carbon, for which labels in the file stand for those of gpaw. Raises
        UserError where they are not of carbon.
        """
        cases = dict(self.cases or (SHORT_CASES if options.short else CASES))
        series = [] if options.short else list(SERIES if self.series is None else self.series)
        kept = SpectraFolder(options.out / "oracles-spectra")
        there = {one for one in _oracles(cases, series) if kept.look_for(one)}
        cases = {name: case for name, case in cases.items() if case.oracle in there}
        series = [one for one in series if one.oracle in there]
        networks = [] if options.short else make_or_read_networks(options)
        tasks = _Progress(
            report, len(cases) + len(series) + sum(c.network is not None for c in cases.values())
        )

        crystals: dict[str, Crystal] = {}
        rows: list[Row] = []
        for name, case in cases.items():
            tasks.next(name)
            crystals.update(_crystals(kept, name, case))
            if name in crystals:
                rows += crystal_rows(name, crystals[name], case.photon_zero_ev)
        data: dict[str, Any] = {"crystals": {name: vars(crystal) for name, crystal in crystals.items()}}
        if networks:
            ends = {
                name: end
                for name in crystals
                for end in _crystals(kept, name, cases[name].like_networks).values()
            }
            ranked, data["networks"] = rank_networks(kept, cases, ends, networks, tasks.next)
            data["ends"] = {name: vars(crystal) for name, crystal in ends.items()}
            rows += ranked
        data["series"] = [found for one in series if (found := _series(kept, one, tasks.next)) is not None]
        for one in data["series"]:
            rows += one.pop("rows")
        data.update(missing=kept.missing, failed=kept.failed)
        return BenchResult(self.name, [*rows, *absent_rows(kept.missing, kept.failed)], data)

    def draw(self, result: BenchResult, path: Path) -> None:
        """Write the pictures: of the spectra, and beside it, where there is any, of convergence."""
        from nearedge.bench.oracles_picture import draw, draw_convergence

        draw(result, path)
        if result.data["series"]:
            draw_convergence(result, path.with_name(f"{path.stem}-convergence{path.suffix}"))


class _Progress:
    """Says which of so many tasks is begun."""

    def __init__(self, report: Report, count: int) -> None:
        self.report, self.count, self.begun = report, max(1, count), 0

    def next(self, text: str) -> None:
        self.report(min(1.0, self.begun / self.count), text)
        self.begun += 1


def _oracles(cases: Mapping[str, Case], series: Sequence[Series]) -> list[str]:
    return sorted({*(case.oracle for case in cases.values()), *(one.oracle for one in series)})


def _crystals(kept: SpectraFolder, name: str, case: Case) -> dict[str, Crystal]:
    """The case's crystals under its name; empty where a calculation failed."""
    found = {
        crystal: kept.find(f"{name}, {crystal}", case.oracle, case.for_crystal(crystal), atoms)
        for crystal, atoms in case.crystals().items()
    }
    graphite, diamond = found["graphite"], found["diamond"]
    if graphite is None or diamond is None:
        return {}
    return {name: Crystal(graphite.energies_ev, graphite.mean, diamond.mean)}


def _series(kept: SpectraFolder, series: Series, begin: Callable[[str], None]) -> dict[str, Any] | None:
    """Spectra of one series and its rows; None where one of them failed."""
    title = f"{series.oracle}, {series.crystal}, {series.what}"
    begin(title)
    found: list[Spectra] = []
    for value in series.values:
        case = series.member(value)
        name = f"{title} {shown(value)}"
        atoms = case.crystals()[series.crystal]
        one = kept.find(name, case.oracle, case.for_crystal(series.crystal), atoms)
        if one is None:
            return None
        found.append(one)
    axes = [one.energies_ev for one in found]
    if series.aligned:
        axes = [axis - pi_of(axis, one.mean) + PI_EV for axis, one in zip(axes, found, strict=True)]
    return {
        "title": title,
        "crystal": series.crystal,
        "values": [shown(value) for value in series.values],
        "energies_ev": axes,
        "spectra": [one.mean for one in found],
        "seconds": [one.seconds for one in found],
        "rows": series_rows(title, series.values, axes, [one.mean for one in found], series.crystal),
    }
