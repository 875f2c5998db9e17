"""How near structures come to a target: by the oracle, and by networks that did not guide."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nearedge.bench.guides import Guides
from nearedge.bench.workshop import ELEMENT, Workshop, identity, oracle_energies
from nearedge_services.refinement import spectral_bias
from nearedge_services.spectra.labelled import label_cell_means, label_spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.structures.agreement import coordination_shares
from nearedge_services.structures.coordination import shortest_contact
from nearedge_services.surrogate.surrogate import Surrogate


class Judge:
    """The members of a surrogate that guidance and refinement do not use.

    They were trained on the same labels from other seeds, so they share what the labels cannot tell but not
    the mistakes of the networks that guide.
    """

    def __init__(self, surrogate: Surrogate) -> None:
        self.surrogate = surrogate
        self.first = surrogate.settings.guidance_members

    @property
    def members(self) -> list[int]:
        """Numbers of the judging members; none where all members guide."""
        return list(range(self.first, self.surrogate.settings.members))

    def distances(self, structures: Sequence[Atoms], target: Target) -> list[float] | None:
        """Distances of their mean prediction to the target, 1/eV; None without a judging member."""
        if not self.members or not structures:
            return None
        means = self.surrogate.member_cell_means(structures, target.absorber)[self.first :].mean(axis=0)
        return [float(value) for value in target.distance(means)]

    def guide_distances(self, structures: Sequence[Atoms], target: Target) -> list[float] | None:
        """The same by the members that guided: what they promise."""
        if not structures:
            return None
        means = self.surrogate.member_cell_means(structures, target.absorber)[: self.first].mean(axis=0)
        return [float(value) for value in target.distance(means)]


@dataclass(frozen=True)
class Verdict:
    """What was measured on labelled structures that aimed at a target; distances in 1/eV."""

    structures: list[Atoms]
    distances: list[float]
    judged: list[float] | None
    promised: list[float] | None
    energies: list[float]
    """eV per atom, by the oracle."""

    @property
    def distance(self) -> float:
        """Median distance by the oracle; NaN without structures."""
        return float(np.median(self.distances)) if self.distances else float("nan")

    @property
    def energy(self) -> float:
        """Median energy, eV per atom; NaN without structures."""
        return float(np.median(self.energies)) if self.energies else float("nan")

    def record(self) -> dict[str, Any]:
        """What the JSON keeps."""
        shares = coordination_shares(self.structures)
        contacts = [shortest_contact(structure) for structure in self.structures]
        return {
            "count": len(self.structures),
            "distance": self.distance,
            "distances": self.distances,
            "judged_distance": float(np.median(self.judged)) if self.judged else None,
            "promised_distance": float(np.median(self.promised)) if self.promised else None,
            "energy_ev_per_atom": self.energy,
            "shares": shares.mean(axis=0) if len(shares) else [None] * 3,
            "shortest_contact_a": min(contacts, default=float("nan")),
            "median_contact_a": float(np.median(contacts)) if contacts else None,
        }


@dataclass(frozen=True)
class Run:
    """Raw and refined structures of one setting."""

    raw: Verdict
    refined: Verdict


class Arena:
    """Samples, refines, labels and judges with the surrogate in a folder."""

    def __init__(self, workshop: Workshop, surrogate_folder: Path) -> None:
        self.workshop = workshop
        self.surrogate = Surrogate.load(surrogate_folder)
        self.name = identity(surrogate_folder)
        self.judge = Judge(self.surrogate)
        self.guides = Guides(workshop.prior, self.surrogate)

    def target(self, network: Atoms) -> Target:
        """The cell-mean spectrum of one labelled network as a target."""
        return Target.from_spectrum(label_spectrum([network], ELEMENT), self.workshop.oracle.grid, ELEMENT)

    def verdict(self, structures: Sequence[Atoms], target: Target) -> Verdict:
        """Label and judge; structures that the oracle cannot calculate are left out."""
        labelled = [a if "xanes" in a.arrays else None for a in structures]
        fresh = [a for a in labelled if a is not None] if all(labelled) else self.workshop.label(structures)
        if not fresh:
            return Verdict([], [], None, None, [])
        means = label_cell_means(fresh, ELEMENT)[1]
        return Verdict(
            fresh,
            [float(value) for value in target.distance(means)],
            self.judge.distances(fresh, target),
            self.judge.guide_distances(fresh, target),
            oracle_energies(fresh),
        )

    def run(
        self,
        cells: Sequence[Atoms],
        name: str,
        target: Target,
        guide: tuple[str, float] | None,
        *,
        refined: int | None = None,
        label_raw: bool = True,
    ) -> Run:
        """Sample with a kind of guidance of some strength and refine (the first ``refined``) with the spectral
        term beside the energy; without a guide, refine on the energy alone.
        """
        if guide is None:
            sampled = self.workshop.sample(cells, name)
        else:
            aim = f"{guide[0]} × {guide[1]!r} {self.aim(target)}"
            sampled = self.workshop.sample(
                cells, name, guidance=self.guides.make(guide[0], target, guide[1]), aim=aim
            )
        chosen = slice(0, refined)
        rested = self.refine(sampled.structures[chosen], sampled.seeds[chosen], target if guide else None)
        raw = self.verdict(sampled.structures if label_raw else [], target)
        return Run(raw, self.verdict(rested, target))

    def refine(self, structures: Sequence[Atoms], seeds: Sequence[int], target: Target | None) -> list[Atoms]:
        """Refined with the spectral term towards a target, or on the energy alone."""
        if target is None:
            return [end.atoms for end in self.workshop.refine(structures, seeds)]
        bias = spectral_bias(self.surrogate, target, self.workshop.refinement)
        return [end.atoms for end in self.workshop.refine(structures, seeds, bias, self.aim(target))]

    def aim(self, target: Target) -> str:
        """A name for the target as this surrogate sees it."""
        parts = (target.grid.energies, target.intensity, target.mask)
        digest = sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
        return f"{digest[:16]} by {self.name}"
