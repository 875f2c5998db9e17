"""The settings of a model that its weights fix: a training that starts from the weights cannot change them."""

from pathlib import Path
from typing import Any

from nearedge_db.errors import UserError
from nearedge_services.networks.weights import load_config


def fixed_settings(kind: str, folder: Path) -> dict[str, Any]:
    """Those settings of the ``prior``, ``surrogate`` or ``potential`` in ``folder``, by name.

    Raises UserError when there is no such model or it is damaged; of a potential only the config is read.
    """
    return {"prior": _of_prior, "surrogate": _of_surrogate, "potential": _of_potential}[kind](folder)


def _of_prior(folder: Path) -> dict[str, Any]:
    from nearedge_services.diffusion.prior import Prior

    names = (
        "n_scalar",
        "n_vector",
        "n_radial",
        "n_layers",
        "cutoff_a",
        "spectrum_components",
        "spectrum_absorber",
    )
    settings = Prior.load(folder).settings
    return {name: getattr(settings, name) for name in names}


def _of_surrogate(folder: Path) -> dict[str, Any]:
    from nearedge_services.surrogate.surrogate import Surrogate
    from nearedge_services.surrogate.training import ARCHITECTURE

    settings = Surrogate.load(folder).settings
    without_noise = {} if settings.noise_aware_steps else {"noise_aware_steps": 0}
    return {name: getattr(settings, name) for name in ARCHITECTURE} | without_noise


def _of_potential(folder: Path) -> dict[str, Any]:
    from nearedge_services.potential.settings import Architecture, PotentialSettings

    config = load_config(folder)
    if config.get("kind") != "potential":
        raise UserError("this folder holds no potential", got=folder, fix="name another")
    try:
        architecture = Architecture.model_validate(config["architecture"])
        members = int(config["members"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError("the potential's config is damaged", got=error, fix="copy it again") from error
    names = set(PotentialSettings.model_fields) & set(Architecture.model_fields)
    return {"members": members} | {name: getattr(architecture, name) for name in sorted(names)}
