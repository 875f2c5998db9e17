"""The models that a generation uses, and which exactly they are."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge_services.diffusion.prior import Prior
    from nearedge_services.potential.potential import Potential
    from nearedge_services.surrogate.surrogate import Surrogate

KINDS = ("prior", "surrogate", "potential")


@dataclass(frozen=True)
class ModelFolders:
    """Where the models are; None for one that is not there. Each is loaded once, when first asked for."""

    prior: Path
    surrogate: Path | None
    potential: Path | None

    @cached_property
    def loaded_prior(self) -> "Prior":
        """The prior; UserError when it is damaged."""
        from nearedge_services.diffusion.prior import Prior

        return Prior.load(self.prior)

    @cached_property
    def loaded_surrogate(self) -> "Surrogate":
        """The surrogate; UserError when there is none or it is damaged."""
        from nearedge_services.surrogate.surrogate import Surrogate

        return Surrogate.load(self._there("surrogate", "a target spectrum needs it"))

    @cached_property
    def loaded_potential(self) -> "Potential":
        """The potential; UserError when there is none or it is damaged."""
        from nearedge_services.potential.potential import Potential

        return Potential.load(self._there("potential", "a refinement needs it"))

    @cached_property
    def identities(self) -> dict[str, str]:
        """Content of each model that is there: ``sha256:`` and 16 hexadecimal digits."""
        folders = {kind: getattr(self, kind) for kind in KINDS}
        return {kind: weights_identity(folder) for kind, folder in folders.items() if folder is not None}

    def check(self, atoms: "Atoms", *, refines: bool) -> None:
        """Load what is needed; UserError for a damaged model, or one that does not know the elements."""
        from nearedge_services.potential.graphs import check_elements

        self.loaded_prior.batch([atoms])
        if self.potential is not None or refines:
            check_elements(atoms.numbers, self.loaded_potential.architecture.elements)

    def _there(self, kind: str, why: str) -> Path:
        folder: Path | None = getattr(self, kind)
        if folder is None:
            raise UserError(
                f"there is no {kind} beside the prior, and {why}",
                got=self.prior.parent,
                fix=f"train one, or name a folder with {kind}/",
            )
        return folder


def find_models(models: str | Path | None, structures: "list[Atoms]") -> ModelFolders:
    """The models in a folder with prior/, surrogate/ and potential/, or the shipped ones for these elements.

    Raises UserError when there is no prior, or none is shipped for the elements.
    """
    if models is None:
        return _shipped(sorted({symbol for atoms in structures for symbol in atoms.get_chemical_symbols()}))
    folder = Path(models)
    found = {kind: folder / kind if (folder / kind).is_dir() else None for kind in KINDS}
    prior = found["prior"]
    if prior is None:
        raise UserError("there is no prior here", got=folder, fix="name a folder that has prior/")
    return ModelFolders(prior, found["surrogate"], found["potential"])


def _shipped(elements: list[str]) -> ModelFolders:
    from nearedge_services.weights import shipped

    prior = shipped("prior", elements)
    if prior is None:
        raise UserError(
            "no trained model for these elements comes with the program",
            got="-".join(elements),
            fix="name trained ones: --model FOLDER with a prior in FOLDER/prior, or --dir of a campaign",
        )
    return ModelFolders(prior, shipped("surrogate", elements), shipped("potential", elements))


def default_composition(models: str | Path | None) -> str:
    """The prior's only element, carbon for the shipped one. Raises UserError when the prior has several."""
    from nearedge_services.networks.weights import load_config

    elements = ["C"] if models is None else list(load_config(Path(models) / "prior").get("elements", []))
    if len(elements) != 1:
        raise UserError(
            "it is open what the cell holds",
            got=f"a prior of {elements}",
            fix="give a composition, as in Si32C32",
        )
    return str(elements[0])


def weights_identity(folder: Path) -> str:
    """Hash of a model's weights and config: ``sha256:`` and 16 hexadecimal digits. UserError without a model."""
    from nearedge_services.networks.weights import CONFIG_FILE, WEIGHTS_FILE, load_config

    load_config(folder)
    digest = hashlib.sha256()
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        path = folder / name
        if not path.is_file():
            raise UserError("the model has no weights", got=path, fix="train or copy it again")
        digest.update(path.read_bytes())
    return f"sha256:{digest.hexdigest()[:16]}"
