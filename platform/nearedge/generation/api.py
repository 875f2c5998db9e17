"""``nearedge.generate``: structures in one Python call."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from nearedge.generation.cells import Density, empty_starts, inpainting_starts
from nearedge.generation.job import Job, structure_seeds
from nearedge.generation.outcomes import Failure, Finished, GenerationError
from nearedge.generation.settings import for_material, read_settings
from nearedge_db.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt
    from ase import Atoms

    from nearedge_services.diffusion.settings import SamplerSettings
    from nearedge_services.refinement import RefinementSettings
    from nearedge_services.spectra.spectrum import Spectrum
    from nearedge_services.spectra.target import Target
    from nearedge_services.structures.composition import Composition

OnFailure = Callable[[Failure], None]


class Options(TypedDict, total=False):
    """What `generate` takes by name; see there."""

    atoms: int | None
    density: Density | None
    cell: "npt.ArrayLike | None"
    start: "Atoms | str | Path | None"
    fixed: Sequence[int] | None
    count: int | None
    seed: int
    target: "Spectrum | Target | str | Path | npt.ArrayLike | None"
    absorber: str | None
    guidance: float | None
    guidance_kind: str
    steps: int | None
    sampler: "SamplerSettings | Mapping[str, Any] | None"
    refine: "bool | RefinementSettings | Mapping[str, Any]"
    models: str | Path | None


def generate(
    composition: "str | Composition | None" = None,
    *,
    on_failure: OnFailure | None = None,
    **options: Unpack[Options],
) -> "list[Atoms]":
    """Generate structures.

    Args:
        composition: such as ``"C64"`` or ``"SiC"``; default: the prior's only element.
        atoms: number of atoms in a cell: the composition's unit is repeated.
        density: g/cm³, one number, a range (low, high) to spread over, or a list.
        cell: three lengths or rows of a (3, 3) matrix, Å; default: a cube of the density.
        start: a structure of which some atoms stay (in-painting), in place of composition, density and cell;
            with ``atoms`` more are added to it.
        fixed: indices of the start's atoms that stay; default: its boolean array ``fixed`` or ``FixAtoms``.
        count: number of structures; default: 1, or the number of densities listed.
        seed: the same seed gives the same structures.
        target: spectrum on the oracle's energy axis: `Spectrum`, `Target`, path, (P, 2) or (G,) array.
        absorber: element of the target's edge; default: the only one with spectra.
        guidance: strength; default 10, classifier-free 2, with a target; 0: the target only judges.
        guidance_kind: ``surrogate``, ``noise-aware``, ``classifier-free`` or ``both``.
        steps: evaluations of the denoiser; default 140.
        sampler: other settings of the sampler.
        refine: relax, anneal and relax, guided structures on energy plus spectral mismatch; or its settings.
        models: folder with prior/, surrogate/ and potential/; default: the shipped ones for the elements.
        on_failure: called with each structure that failed, in place of the GenerationError.

    Every structure carries its quality record in ``info``: ``density_g_cm3``, ``shortest_contact_a``,
    ``cn1_fraction`` … ``cn5_fraction``, ``predicted_energy_per_atom_ev`` with its ``…_std…``, with a target
    ``predicted_distance`` (1/eV) with its ``…_std``, ``seed``, ``guidance_kind``, ``guidance_scale``,
    ``sampler_steps``, after a refinement ``refinement_status``, ``refined_rms_displacement_a``,
    ``refined_max_displacement_a`` and the ``raw_…`` values before it, and the content hashes of the weights.
    What no model is there for is left out.

    Raises UserError for wrong input before anything expensive, and GenerationError, with the finished
    structures in it, when some came out NaN or fell apart.

    Example:
        >>> import nearedge
        >>> structures = nearedge.generate("C64", density=2.6, count=8, seed=0)              # doctest: +SKIP
        >>> steered = nearedge.generate("C64", density=2.6, target="T.csv", refine=True)     # doctest: +SKIP
    """
    return list(generate_iter(composition, on_failure=on_failure, **options))


def generate_iter(
    composition: "str | Composition | None" = None,
    *,
    on_failure: OnFailure | None = None,
    **options: Unpack[Options],
) -> "Iterator[Atoms]":
    """As `generate`, each structure as soon as it is finished; GenerationError comes after the last one.

    Wrong input is refused by the call itself, not by the first step of the iteration.
    """
    return _structures(prepare(composition, **options), on_failure)


def _structures(job: Job, on_failure: OnFailure | None) -> "Iterator[Atoms]":
    failures: list[Failure] = []
    completed: list[Atoms] = []
    for outcome in job.run():
        if isinstance(outcome, Finished):
            completed.append(outcome.atoms)
            yield outcome.atoms
        elif on_failure is not None:
            on_failure(outcome)
        else:
            failures.append(outcome)
    if failures:
        raise GenerationError(failures, completed)


def prepare(
    composition: "str | Composition | None" = None,
    *,
    atoms: int | None = None,
    density: Density | None = None,
    cell: "npt.ArrayLike | None" = None,
    start: "Atoms | str | Path | None" = None,
    fixed: Sequence[int] | None = None,
    count: int | None = None,
    seed: int = 0,
    target: "Spectrum | Target | str | Path | npt.ArrayLike | None" = None,
    absorber: str | None = None,
    guidance: float | None = None,
    guidance_kind: str = "surrogate",
    steps: int | None = None,
    sampler: "SamplerSettings | Mapping[str, Any] | None" = None,
    refine: "bool | RefinementSettings | Mapping[str, Any]" = False,
    models: str | Path | None = None,
) -> Job:
    """The job of a call of `generate`, whose arguments these are: all is checked, nothing generated yet.

    Raises UserError for whatever cannot work.
    """
    from nearedge.generation.aims import check_scale, make_aim, read_kind
    from nearedge.generation.models import default_composition, find_models
    from nearedge_services.diffusion.settings import SamplerSettings
    from nearedge_services.refinement import RefinementSettings

    if seed != int(seed) or seed < 0:
        raise UserError("the seed must be zero or more", got=seed, fix="give a whole number")
    kind = read_kind(guidance_kind)
    check_scale(guidance, target is not None)
    walk = read_settings(SamplerSettings, sampler, {} if steps is None else {"steps": steps})
    refinement = None
    if refine is not False:
        refinement = read_settings(RefinementSettings, None if refine is True else refine)
    if start is not None:
        if density is not None or cell is not None:
            raise UserError(
                "the start has its own cell", got="a density or a cell beside it", fix="leave these out"
            )
        starts = inpainting_starts(start, fixed, composition=composition, atoms=atoms, count=count)
    elif fixed is not None:
        raise UserError("fixed atoms need a start", got=f"fixed {list(fixed)}", fix="give a structure")
    else:
        content = composition if composition is not None else default_composition(models)
        starts = empty_starts(content, atoms=atoms, density=density, cell=cell, count=count)
    found = find_models(models, starts)
    found.check(starts[0], refines=refinement is not None)
    aim = make_aim(target, found, max(starts, key=len), absorber, kind, guidance)
    if refinement is not None:
        refinement = for_material(refinement, starts[0])
    return Job(found, starts, structure_seeds(seed, len(starts)), walk, aim, refinement)


def _show_arguments(function: Callable[..., Any]) -> None:
    """Let ``help`` list the options by name."""
    own = inspect.signature(function)
    names = [*inspect.signature(prepare).parameters.values(), own.parameters["on_failure"]]
    function.__signature__ = own.replace(parameters=names)  # type: ignore[attr-defined]


_show_arguments(generate)
_show_arguments(generate_iter)
