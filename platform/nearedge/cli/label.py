"""``nearedge label``: oracle labels for the structures of a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge_services.oracles.base import Oracle


def label(
    structures: Annotated[Path, typer.Argument(help="Extended XYZ file with the structures.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Labelled extended XYZ; grows as labels come.")
    ],
    oracle: Annotated[str, typer.Option(help="Which oracle: xtb, gpaw, feff or espresso.")] = "xtb",
    settings: Annotated[list[str] | None, typer.Option("--set", help="An oracle setting, key=value.")] = None,
) -> None:
    """Label structures with energy, forces and the XANES of every atom.

    An interrupted run goes on where it stopped: frames that OUTPUT has already are not calculated again, and what is
    left of one that was being written is done anew.
    Frames that fail are reported at the end, and the exit status is then 1.

    Example: nearedge label networks.extxyz --oracle xtb --set sigma_ev=0.5 -o labelled.extxyz
    """
    from rich.console import Console
    from rich.progress import track

    from nearedge.cli.outputs import check_output
    from nearedge_services.oracles.errors import OracleError, classified
    from nearedge_services.oracles.factory import make_oracle
    from nearedge_services.oracles.per_absorber import until_stored
    from nearedge_services.structures.extxyz import read_structures, write_structures

    check_output(output, inputs=[structures])
    console = Console()
    method = make_oracle(oracle, oracle_settings(settings or []))
    frames = read_structures(structures)
    for frame in frames:
        method.check_elements(frame.numbers)
    done = _already_labelled(output, method)
    failures: list[tuple[int, str]] = []
    for number, frame in enumerate(track(frames, description="labelling", console=console)):
        if _identity(frame) in done:
            continue
        try:
            with classified(), until_stored() as unstored:
                labelled = method.label(frame).attach(frame)
        except OracleError as error:  # the others may succeed
            failures.append((number, f"{type(error).__name__}: {error}"))
            continue
        labelled.info.update(oracle=method.name, oracle_settings=method.settings_hash)
        write_structures(output, [labelled], append=True)
        unstored.clear()
        done.add(_identity(frame))
    for number, reason in failures:
        console.print(f"frame {number} failed: {reason}", markup=False)
    console.print(f"{len(frames) - len(failures)} of {len(frames)} frames labelled in {output}", markup=False)
    if failures:
        raise typer.Exit(1)


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``["sigma_ev=0.5"]`` as settings; values are read as YAML. Raises UserError for anything else."""
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key.strip() and equals):
            raise UserError("a setting is not readable", got=repr(pair), fix="write --set key=value")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError("a setting is not readable", got=repr(pair), fix="write a plain value") from error
    return settings


def oracle_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """The same with the keys of sections: ``["run.workers=2"]`` is ``{"run": {"workers": 2}}``."""
    nested: dict[str, Any] = {}
    for path, value in parse_settings(pairs).items():
        *sections, key = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(
                    "a setting is given whole and in part",
                    got=path,
                    fix="give either the section or its keys",
                )
        place[key] = value
    return nested


def _identity(atoms: "Atoms") -> str:
    from nearedge_db.hashing import structure_hash

    return structure_hash(atoms.numbers, atoms.positions, atoms.cell.array)


def _already_labelled(output: Path, oracle: "Oracle") -> set[str]:
    """Hashes of the frames in OUTPUT; what an interruption left of one is cut off.

    Raises UserError, and leaves the file as it is, when they come from another oracle or other settings.
    """
    from nearedge_services.structures.extxyz import read_structures
    from nearedge_services.structures.frames import complete_frames, cut_off_rest

    found = complete_frames(output)
    if not found.complete:
        return set()
    frames = read_structures(output, size=found.size)
    for frame in frames:
        made_by = (frame.info.get("oracle"), str(frame.info.get("oracle_settings")))
        if made_by != (oracle.name, oracle.settings_hash):
            raise UserError(
                "the output file has frames that this oracle with these settings did not make",
                got=output,
                fix="give another file with -o, or the same settings",
            )
    cut_off_rest(output, found)
    return {_identity(frame) for frame in frames}
