"""The committee of networks: energies, forces and how sure they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nearedge_db.errors import UserError
from nearedge_services.networks.weights import load_config, load_weights, save_weights
from nearedge_services.potential.errors import NonFiniteForces
from nearedge_services.potential.graphs import Graph, chunks, collate, graph_of
from nearedge_services.potential.network import Output, build_network, run_network
from nearedge_services.potential.settings import Architecture

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge_services.potential.calculator import PotentialCalculator

_KIND = "potential"
_CHUNK_ATOMS = 256


class Spread(BaseModel):
    """Turns the committee's spread s into a standard deviation, √(floor² + factor² s²)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    floor: float = Field(default=0.0, ge=0)
    """What the members get wrong together, in the unit of the quantity."""
    factor: float = Field(default=1.0, ge=0)

    def std(self, spread: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Standard deviation for raw spreads of any shape."""
        return np.hypot(self.floor, self.factor * np.asarray(spread, dtype=float))


class Calibration(BaseModel):
    """How the spread of the energy per atom (eV) and of force components (eV/Å) is to be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    energy: Spread = Spread()
    force: Spread = Spread()


@dataclass(frozen=True)
class EnergyPrediction:
    """What the committee says about one structure of N atoms."""

    energy_ev: float
    """Mean total energy, eV."""
    energy_std_ev_per_atom: float
    """Calibrated standard deviation of the energy per atom, eV."""
    forces: npt.NDArray[np.float64]
    """Mean forces (N,3), eV/Å."""
    max_force_std: float
    """Largest calibrated standard deviation of a force vector among the atoms, eV/Å."""


@dataclass(frozen=True)
class CommitteeOutput:
    """Every member's answer for one structure: energies (M,) eV, forces (M,N,3) eV/Å."""

    energies: npt.NDArray[np.float64]
    forces: npt.NDArray[np.float64]

    def energy_spread(self) -> float:
        """Standard deviation over the members of the energy per atom, eV; 0 for one member."""
        members, atoms = self.forces.shape[:2]
        return float(self.energies.std(ddof=1)) / atoms if members > 1 else 0.0

    def force_spread(self) -> npt.NDArray[np.float64]:
        """Root mean square over directions of the members' standard deviation, (N,) eV/Å; 0 for one
        member.
        """
        if len(self.forces) == 1:
            return np.zeros(self.forces.shape[1])
        return np.asarray(np.sqrt(self.forces.var(axis=0, ddof=1).mean(axis=-1)))


class Potential:
    """A committee of MACE networks that share one architecture.

    Example:
        potential = Potential.load("runs/model")
        atoms.calc = potential.calculator()
        energy = atoms.get_potential_energy()  # eV
    """

    HEADLINE: ClassVar[str] = "force_rmse_ev_per_a"
    """The held-out metric that decides promotion, lower is better."""

    def __init__(
        self,
        architecture: Architecture,
        members: Sequence[torch.nn.Module],
        calibration: Calibration | None = None,
        device: str = "cpu",
    ) -> None:
        self.architecture = architecture
        self.members = torch.nn.ModuleList(members).to(device)
        self.members.requires_grad_(False)
        self.calibration = calibration or Calibration()
        self.device = torch.device(device)

    def to(self, device: torch.device | str) -> "Potential":
        """This potential, its weights moved there."""
        self.members.to(device)
        self.device = torch.device(device)
        return self

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols of the elements it was trained on."""
        return tuple(chemical_symbols[z] for z in self.architecture.elements)

    def graph(self, atoms: "Atoms") -> Graph:
        """Neighbours within the cutoff; UserError for an unknown element, NonFiniteForces for broken
        geometry.
        """
        return graph_of(atoms, self.architecture.elements, self.architecture.cutoff_a)

    def own_energy(self, numbers: npt.NDArray[np.int64]) -> float:
        """Sum of the elements' own energies, eV."""
        table = dict(zip(self.architecture.elements, self.architecture.isolated_energies_ev, strict=True))
        return float(sum(table[int(z)] for z in numbers))

    def evaluate(
        self, structures: Sequence["Atoms"], members: int | None = None, max_atoms: int = _CHUNK_ATOMS
    ) -> list[CommitteeOutput]:
        """Answers of the first `members` networks (default all), structures evaluated together in chunks.

        Raises UserError for an unknown element, NonFiniteForces when an energy or a force is not finite.
        """
        graphs = [self.graph(atoms) for atoms in structures]
        networks = list(self.members)[:members]
        results: list[CommitteeOutput] = []
        for chunk in chunks(graphs, max_atoms):
            outputs = [
                run_network(network, collate([graphs[i] for i in chunk], self.device)) for network in networks
            ]
            results += self._split([structures[i] for i in chunk], outputs)
        return results

    def _split(self, structures: Sequence["Atoms"], outputs: Sequence[Output]) -> list[CommitteeOutput]:
        energies = np.stack([output.energies.detach().cpu().double().numpy() for output in outputs])
        forces = np.stack([output.forces.detach().cpu().double().numpy() for output in outputs])
        if not (np.isfinite(energies).all() and np.isfinite(forces).all()):
            raise NonFiniteForces("the potential gave an energy or a force that is not finite")
        ends = np.cumsum([len(atoms) for atoms in structures])
        return [
            CommitteeOutput(
                energies[:, k] + self.own_energy(atoms.numbers), forces[:, end - len(atoms) : end]
            )
            for k, (atoms, end) in enumerate(zip(structures, ends, strict=True))
        ]

    def predict(self, structures: Sequence["Atoms"]) -> list[EnergyPrediction]:
        """Committee mean and calibrated spread of every structure; raises as `evaluate` does."""
        return [
            EnergyPrediction(
                energy_ev=float(output.energies.mean()),
                energy_std_ev_per_atom=float(self.calibration.energy.std(output.energy_spread())),
                forces=output.forces.mean(axis=0),
                max_force_std=float(self.calibration.force.std(output.force_spread().max())),
            )
            for output in self.evaluate(structures)
        ]

    def calculator(self, members: int | None = None) -> "PotentialCalculator":
        """An ASE calculator over the first `members` networks; one of them halves the cost and knows no
        spread.
        """
        from nearedge_services.potential.calculator import PotentialCalculator

        return PotentialCalculator(self, members)

    def save(self, folder: str | Path) -> Path:
        """Write `weights.safetensors` and `config.json` into `folder`."""
        config = {
            "kind": _KIND,
            "architecture": self.architecture.model_dump(mode="json"),
            "members": len(self.members),
            "calibration": self.calibration.model_dump(),
        }
        return save_weights(folder, self.members, config)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "Potential":
        """The potential that `save` wrote; UserError when the folder does not hold one."""
        config = load_config(folder)
        if config.get("kind") != _KIND:
            raise UserError(
                "this folder holds no potential", got=folder, fix="name one that `train potential` wrote"
            )
        try:
            architecture = Architecture.model_validate(config["architecture"])
            calibration = Calibration.model_validate(config["calibration"])
            count = int(config["members"])
        except (KeyError, ValidationError, TypeError, ValueError) as error:
            raise UserError(
                "the potential's config is damaged", got=folder, fix="train or copy it again"
            ) from error
        members = torch.nn.ModuleList([build_network(architecture, seed=0) for _ in range(count)])
        return cls(architecture, list(load_weights(folder, members)), calibration, device)
