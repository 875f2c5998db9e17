"""``nearedge seeds``: melt-quenched, oracle-relaxed, labelled structures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt
    from ase import Atoms

    from nearedge_services.oracles.base import Oracle
    from nearedge_services.structures.composition import Composition


QUENCH_STEPS = 800
"""As `MeltQuenchSettings` has it; structures of before do not say theirs."""


def seeds(
    *,
    composition: Annotated[str, typer.Option(help="Atoms in the cell, such as C64 or Si32C32.")],
    density: Annotated[
        str, typer.Option(help="Density in g/cm³, 2.8, or a range spread over COUNT, 1.6:3.4.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ to append to, seed by seed.")],
    count: Annotated[int, typer.Option(min=1, help="How many structures.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; the others count on.")] = 0,
    oracle: Annotated[
        str, typer.Option(help="Which oracle relaxes and labels: xtb, gpaw, feff or espresso.")
    ] = "xtb",
    settings: Annotated[list[str] | None, typer.Option("--set", help="An oracle setting, key=value.")] = None,
    quench_steps: Annotated[
        int,
        typer.Option(min=1, help="Steps of 1 fs of the quench: more of them make networks lower in energy."),
    ] = QUENCH_STEPS,
    labels: Annotated[
        bool, typer.Option("--label/--no-label", help="Relax and label with the oracle.")
    ] = True,
) -> None:
    """Make amorphous networks by melt-quench, relax them with the oracle and label them.

    Seeds that OUTPUT has already are skipped, one that was being written is made anew.
    Seeds that fail are reported and the exit status is then 1.

    Example: nearedge seeds --composition C64 --density 2.8 --count 1 --seed 777 -o target.extxyz
    """
    from rich.console import Console
    from rich.progress import track

    from nearedge.cli.label import oracle_settings
    from nearedge.cli.outputs import check_output
    from nearedge_services.oracles.errors import OracleError, classified
    from nearedge_services.oracles.factory import make_oracle
    from nearedge_services.structures.composition import parse_composition
    from nearedge_services.structures.extxyz import write_structures

    check_output(output)
    console = Console()
    cell = parse_composition(composition)
    method = make_oracle(oracle, oracle_settings(settings or []))
    wanted = list(zip(range(seed, seed + count), densities(density, count), strict=True))
    done, made_with = _made_already(output), method.settings_hash if labels else None
    failed = 0
    for number, value in track(wanted, description="making seeds", console=console):
        if _key(number, cell.numbers, value, made_with, quench_steps) in done:
            continue
        try:
            with classified():
                atoms = _make(method if labels else None, cell, value, number, quench_steps)
        except OracleError as error:
            failed += 1
            console.print(f"seed {number} failed: {type(error).__name__}: {error.reason}", markup=False)
            continue
        write_structures(output, [atoms], append=True)
    console.print(f"{count - failed} of {count} structures in {output}", markup=False)
    if failed:
        raise typer.Exit(1)


def _make(
    oracle: "Oracle | None", cell: "Composition", density_g_cm3: float, seed: int, quench_steps: int
) -> "Atoms":
    """One network, relaxed and labelled where an oracle is given."""
    from nearedge_services.oracles.seed import SeedSettings, make_network, make_seed
    from nearedge_services.structures.melt_quench import MeltQuenchSettings

    settings = SeedSettings(melt_quench=MeltQuenchSettings(quench_steps=quench_steps))
    if oracle is None:
        atoms = make_network(cell, density_g_cm3, seed, settings.melt_quench)
        atoms.info["quench_steps"] = quench_steps
    else:
        atoms = make_seed(oracle, cell, density_g_cm3, seed, settings).final
        made_by = {"oracle": oracle.name, "oracle_settings": oracle.settings_hash}
        atoms.info.update(quench_steps=quench_steps, **made_by)
    return atoms


def densities(text: str, count: int) -> list[float]:
    """``"2.8"`` or ``"1.6:3.4"`` as ``count`` densities in g/cm³, evenly spread with both ends. Raises
    UserError.
    """
    import numpy as np

    from nearedge.config import MAX_DENSITY_G_CM3

    try:
        ends = [float(part) for part in text.split(":")]
    except ValueError:
        ends = []
    if len(ends) not in {1, 2} or not all(0 < end <= MAX_DENSITY_G_CM3 for end in ends):
        raise UserError("the density is not readable", got=repr(text), fix="write 2.8 or 1.6:3.4 in g/cm³")
    spread = np.linspace(ends[0], ends[-1], count) if count > 1 else [(ends[0] + ends[-1]) / 2]
    return [round(float(value), 6) for value in spread]


def _made_already(output: Path) -> set[tuple]:
    """Seed, atoms, density and settings of what is in OUTPUT: only the very same structure is skipped.

    What an interruption left of a structure is cut off.
    """
    from nearedge_services.structures.extxyz import read_structures
    from nearedge_services.structures.frames import complete_frames, cut_off_rest

    found = complete_frames(output)
    if not found.complete:
        return set()
    frames = read_structures(output, size=found.size)
    if found.fault is not None and not any(_is_seed(atoms) for atoms in frames):
        raise UserError(
            "the output has no structure of this command, and half of another one",
            got=f"{output}: {found.fault}",
            fix="name another file",
        )
    cut_off_rest(output, found)
    return {
        _key(
            atoms.info["seed"],
            atoms.numbers,
            atoms.info["density_g_cm3"],
            atoms.info.get("oracle_settings"),
            atoms.info.get("quench_steps", QUENCH_STEPS),
        )
        for atoms in frames
        if _is_seed(atoms)
    }


def _is_seed(atoms: "Atoms") -> bool:
    return {"seed", "density_g_cm3"} <= atoms.info.keys()


def _key(
    seed: int, numbers: "npt.NDArray", density_g_cm3: float, settings_hash: str | None, quench_steps: int
) -> tuple:
    settings = None if settings_hash is None else str(settings_hash)
    kinds = tuple(sorted(numbers.tolist()))
    return (int(seed), kinds, round(float(density_g_cm3), 6), settings, int(quench_steps))
