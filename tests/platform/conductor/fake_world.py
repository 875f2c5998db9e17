"""The conductor with everything real but the actors: their work is faked, at once and in this process.

Labelers and trainers are those of the bench ``loop``.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from sqlalchemy.orm import Session
from tests.platform.campaign_files import ENERGIES_EV, intensity

from nearedge.bench.loop_agents import InventingAgents
from nearedge.bench.loop_clock import Clock, ClockedPool
from nearedge.conductor.conductor import Conductor
from nearedge.conductor.context import Context
from nearedge.config import CampaignConfig
from nearedge.confirmed import ORACLE_EVENT
from nearedge.starting import Start
from nearedge.steering import Settings
from nearedge_agents.pool import Done, Usage, Work
from nearedge_agents.scorer import Prediction, Scored
from nearedge_db.database import Database, url_of_run
from nearedge_db.ledger import Ledger, Task
from nearedge_db.schema import OracleSettings
from nearedge_db.store import add_event, create_campaign, find_campaign
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.structures.fingerprint import fingerprint

SETTINGS: dict[str, Any] = {
    "name": "faked",
    "seed": 1,
    "target": {"file": "target.csv"},
    "material": {"composition": "C8", "density_g_cm3": (2.0, 3.0)},
    "seeds": {"count": 5, "held_out_fraction": 0.3},
    "models": {"retrain_every": {"surrogate": 3}},
    "generation": {"batch": 2},
    "gate": {"novelty": 0.0, "max_energy_above_seeds_ev_per_atom": 5.0},
    "acquisition": {"selectivity": 2.0, "max_waiting": 6},
    "stop": {"labels": 4, "baseline_labels": 2},
}


def carbon(seed: int, density_g_cm3: float = 2.5) -> Atoms:
    """Eight atoms of that density, out of place in a way that the seed decides."""
    atoms = bulk("C", "diamond", 3.57, cubic=True)
    atoms.set_cell(atoms.cell.array * (3.51 / density_g_cm3) ** (1 / 3), scale_atoms=True)
    atoms.rattle(0.15, seed=seed)
    return atoms


DEAR_ENERGY_EV, DEAR_SHIFT_EV = -900.0, 1.5
"""Energy of an atom by the second oracle, and how far its edge lies above the first one's."""


def dearer(xanes: np.ndarray) -> np.ndarray:
    """What the second oracle says of spectra (N, G) of the first: shifted, and weaker far above the edge."""
    shifted = [np.interp(ENERGIES_EV - DEAR_SHIFT_EV, ENERGIES_EV, row, left=0.0) for row in xanes]
    return np.array(shifted) * (1.0 - 0.01 * ENERGIES_EV)


class FakeSteering:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.told: dict[int, float] = {}
        self.measured: dict[str, tuple] = {}
        self.given_up: list[int] = []
        self.known_when_asked: list[int] = []
        """How many labels each request for settings could know of."""

    def read(self) -> None:
        """Knows it all."""

    def ask(self, session: Session | None = None) -> Settings:
        self.asked += 1
        self.known_when_asked.append(len(self.measured))
        return Settings(self.asked, 2.5, 4.0, 1.0)

    def tell(self, trial_number: int, distance: float, session: Session | None = None) -> None:
        self.told.setdefault(trial_number, distance)

    def give_up(self, trial_number: int, session: Session | None = None) -> None:
        self.given_up.append(trial_number)

    def give_up_orphans(self, known: set[int]) -> None:
        self.given_up += sorted(self.open_trials - known)

    @property
    def open_trials(self) -> set[int]:
        """Settings that were asked for and never told or given up."""
        return set(range(1, self.asked + 1)) - set(self.told) - set(self.given_up)

    def add_measured(
        self, key: str, parameters: dict, distance: float, source: str, session: Session | None = None
    ) -> bool:
        self.measured.setdefault(key, (parameters, distance, source))
        return True


class FakePool(ClockedPool):
    """Does the work when the answer is collected; ``answer`` returns the value or raises."""

    def __init__(
        self,
        name: str,
        size: int,
        answer: Callable[[Work], Any],
        lost: Collection[int] = (),
        dies: Callable[[Work], None] = lambda work: None,
    ) -> None:
        """``lost`` are numbers (from 0) of submissions whose actor dies, and ``dies`` is what it does before."""
        super().__init__(name, size, Clock(), answer)
        self.lost, self.dies = lost, dies
        self.given: list[Work] = []
        """All work ever submitted, in order."""
        self.most_at_once = 0
        """Most pieces of work that were under way together."""

    def submit(self, work: Work) -> None:
        super().submit(work)
        self.given.append(work)
        self.most_at_once = max(self.most_at_once, len(self.works))

    def collect(self, ref: tuple[str, int]) -> Done:
        work = self.works[ref[1]][0]
        if ref[1] in self.lost:
            del self.works[ref[1]]
            self.dies(work)
            return Done(work, error=RuntimeError("died"), lost=True, actor=self.name)
        try:
            return super().collect(ref)
        except Exception as error:  # noqa: BLE001 - as a pool does
            return Done(work, error=error)

    def usage(self) -> Usage:
        return Usage(1.0, float(self.size), 0.5, 1)


class World(InventingAgents):
    """One run directory with its fake actors; ``conductor()`` starts a new session of the same campaign."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.folder = folder
        self.config = CampaignConfig.model_validate({**SETTINGS, "dir": str(folder), **sections})
        self.database = Database.open(url_of_run(folder))
        self.ledger = Ledger(self.database)
        self.oracle = make_oracle("xtb", {})
        self.confirming = make_oracle("xtb", {"core_hole": "z+1"}) if self.config.confirm else None
        """The second oracle, where the settings ask for one: see :func:`dearer`."""
        self.steering = FakeSteering()
        with self.database.begin() as session:
            stored = self.config.model_dump(mode="json", include={"confirm"})
            create_campaign(session, "faked", stored, seed=1, absorber="C")
            for oracle in filter(None, (self.oracle, self.confirming)):
                session.add(
                    OracleSettings(settings_hash=oracle.settings_hash, oracle="xtb", settings_json={})
                )
            if self.confirming is not None:
                add_event(session, 1, ORACLE_EVENT, {"settings_hash": self.confirming.settings_hash})
        self.spectrum = Spectrum(ENERGIES_EV, intensity())
        self.contact: Callable[[Atoms], float] = lambda atoms: 0.95
        """Relative contact of a scored candidate: below the gate's limit it is rejected."""
        self.nodes: list[dict[str, float]] = [{"CPU": 64.0}]
        """What each node of the cluster has."""
        self.start = Start()
        """The models that a session starts from."""
        self.tidied: list[str] = []
        """Tracking URIs of the stores that a session left in order."""
        self.lost: dict[str, set[int]] = {}
        self.dies: Callable[[Work], None] = lambda work: None
        """What an actor of ``lost`` does before it dies."""
        self.labels_computed: list[int] = []
        """Structures that the fake oracle was asked for."""
        self.labels_confirming: list[int] = []
        """Structures that the second one was asked for."""

    def context(self) -> Context:
        with self.database.session() as session:
            campaign = find_campaign(session, "faked")
        return Context(
            config=self.config,
            campaign_id=campaign.id,
            absorber="C",
            spectrum=self.spectrum,
            oracle=self.oracle,
            confirming=self.confirming,
            database=self.database,
            steering=self.steering,
            start=self.start,
            target=Target.from_spectrum(self.spectrum, self.oracle.grid, "C"),
        )

    def conductor(self, starting: list[Atoms] | None = None) -> Conductor:
        """A new session, as after a restart of the driver."""
        conductor = Conductor(
            self.context(),
            starting or [],
            "sqlite:///unused.db",
            tidy_registry=lambda context, uri: self.tidied.append(uri),
            nodes=lambda: self.nodes,
        )
        answers = {
            "generator": self._generate,
            "scorer": self._score,
            "labeler": self.label,
            "trainer": self.train,
        }
        conductor.pools = {
            name: FakePool(name, pool.size, answers[name], lost=self.lost.get(name, set()), dies=self.dies)
            for name, pool in self.config.pools.items()
        }
        return conductor

    def _generate(self, work: Work) -> list[Atoms]:
        request = work.args[0]
        return [carbon(seed, density) for seed, density in zip(request.seeds, request.densities, strict=True)]

    def _score(self, work: Work) -> Any:
        if work.method == "predict":
            return [prediction(atoms) for atoms in work.args[0]]
        return [scored(atoms, self.contact(atoms)) for atoms in work.args[0]]

    def starting_structure(self, payload: dict[str, Any]) -> Atoms:
        return carbon(payload["seed"] % 2**31, payload["density_g_cm3"])

    def calculate(self, atoms: Atoms, task: Task) -> tuple[float, np.ndarray]:
        energy_ev, xanes = super().calculate(atoms, task)
        if task.settings_hash == self.oracle.settings_hash:
            return energy_ev, xanes
        return DEAR_ENERGY_EV * len(atoms), dearer(xanes)

    def put_label(self, session: Session, atoms: Atoms, task: Task) -> dict[str, int]:
        frame = super().put_label(session, atoms, task)
        is_dear = task.settings_hash != self.oracle.settings_hash
        (self.labels_confirming if is_dear else self.labels_computed).append(frame["structure_id"])
        return frame


def prediction(atoms: Atoms) -> Prediction:
    """Any, but the same for the same structure."""
    return Prediction(0.001 + float(np.abs(atoms.positions).sum() % 1) / 1000, 0.001, -50.0, 0.01)


def scored(atoms: Atoms, contact: float = 0.95) -> Scored:
    """As the scorer returns it, not relaxed."""
    return Scored(
        atoms=atoms,
        prediction=prediction(atoms),
        fingerprint=fingerprint(atoms),
        contact=contact,
        shortest_contact_a=1.4,
        overcoordinated_fraction=0.0,
        rms_displacement_a=0.0,
        coordination={4: 1.0},
        raw_coordination={4: 1.0},
    )
