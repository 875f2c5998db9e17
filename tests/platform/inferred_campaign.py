"""Made-up campaigns whose spectra follow density and coordination, with noise of their own in each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from sqlalchemy.orm import Session

from nearedge_db.database import Database, url_of_run
from nearedge_db.schema import Campaign
from nearedge_db.states import LabelRole, StructureOrigin
from nearedge_db.store import (
    create_campaign,
    link_structure,
    put_atoms,
    put_label,
    put_settings,
    set_target,
    use_label,
)
from nearedge_services.structures.composition import density_g_cm3

GRID_EV = np.linspace(0.0, 20.0, 81)
BASE = 1.0 + np.exp(-0.5 * ((GRID_EV - 8.0) / 3.0) ** 2)
MODES = np.array([np.sin(GRID_EV), np.cos(2.0 * GRID_EV)])
ORIGINS = {LabelRole.SEED: StructureOrigin.SEED, LabelRole.BASELINE: StructureOrigin.BASELINE}
ORACLE_SETTINGS = {"sigma_ev": 0.6}
ALL = np.ones(len(GRID_EV), dtype=bool)


@dataclass(frozen=True)
class Network:
    """One labelled structure; its spectrum follows density and four-fold share unless another is given."""

    density: float
    four: float
    noise: tuple[float, float] = (0.0, 0.0)
    spectrum: np.ndarray | None = None
    group: str | None = None
    energy_per_atom_ev: float = -50.0

    def intensity(self) -> np.ndarray:
        """(G,) in units of its own."""
        if self.spectrum is not None:
            return self.spectrum
        return spectrum_of(self.density + self.noise[0], self.four + self.noise[1])


def spectrum_of(density: float, four: float) -> np.ndarray:
    """(G,): one mode for the density, one for the four-fold share."""
    return BASE + 0.1 * np.array([density - 2.5, four - 0.4]) @ MODES


def networks(count: int, seed: int = 0) -> list[Network]:
    """Networks of 1.6 to 3.4 g/cm³; the four-fold share goes with the density, but not strictly."""
    rng = np.random.default_rng(seed)
    density = np.linspace(1.6, 3.4, count)
    four = 0.05 + 0.35 * (density - 1.5) + rng.normal(scale=0.05, size=count)
    noise = rng.normal(scale=[0.05, 0.02], size=(count, 2))
    return [
        Network(float(d), float(f), (float(a), float(b)))
        for d, f, (a, b) in zip(density, four, noise, strict=True)
    ]


@dataclass(frozen=True)
class Setup:
    """What the campaign contains."""

    target: np.ndarray
    seeds: Sequence[Network]
    baseline: Sequence[Network] = ()
    guided: Sequence[Network] = ()
    mask: np.ndarray | None = None
    formula: str = "C8"


def make(folder: Path, setup: Setup) -> Database:
    """Write the campaign ``demo`` into ``folder``; the caller disposes of the database."""
    folder.mkdir(parents=True, exist_ok=True)
    database = Database.open(url_of_run(folder))
    with database.begin() as session:
        campaign = create_campaign(
            session, "demo", {"material": {"composition": setup.formula}}, seed=1, absorber="C"
        )
        mask = ALL if setup.mask is None else setup.mask
        inside = np.where(mask, setup.target, 0.0)
        set_target(
            session,
            campaign.id,
            energies_ev=GRID_EV,
            intensity=inside / np.trapezoid(setup.target[mask], GRID_EV[mask]),
            mask=mask,
            alignment=None,
        )
        settings = put_settings(session, "xtb", ORACLE_SETTINGS)
        roles = ((LabelRole.SEED, setup.seeds), (LabelRole.BASELINE, setup.baseline))
        for role, members in (*roles, (LabelRole.GUIDED, setup.guided)):
            for index, network in enumerate(members):
                _put(session, campaign, settings, role, network, f"{role.value}-{index}", setup.formula)
    return database


def _put(
    session: Session,
    campaign: Campaign,
    settings: str,
    role: LabelRole,
    network: Network,
    name: str,
    formula: str,
) -> None:
    atoms = _atoms(network, formula, name)
    structure = put_atoms(session, atoms, {2: 0.05, 3: 0.95 - network.four, 4: network.four})
    rows = np.tile(network.intensity(), (len(atoms), 1))
    rows[atoms.numbers != 6] = 7.0 + np.arange(
        len(GRID_EV)
    )  # not the absorber's: must have no part in anything
    label = put_label(
        session,
        structure.id,
        settings,
        energy_ev=network.energy_per_atom_ev * len(atoms),
        forces=np.zeros((len(atoms), 3)),
        xanes=rows,
        energies_ev=GRID_EV,
        seconds=1.0,
    )
    use_label(session, campaign.id, label.id, role, 0.001)
    origin = ORIGINS.get(role, StructureOrigin.GUIDED)
    link_structure(session, campaign.id, structure.id, origin, network.group or name, seed=0)


def _atoms(network: Network, formula: str, name: str) -> Atoms:
    rng = np.random.default_rng(list(name.encode()))
    atoms = Atoms(formula, pbc=True, cell=np.eye(3), scaled_positions=rng.random((len(Atoms(formula)), 3)))
    atoms.set_cell(np.eye(3) * (density_g_cm3(atoms) / network.density) ** (1 / 3), scale_atoms=True)
    return atoms
