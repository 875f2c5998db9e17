"""A campaign without Ray, models and chemistry: the real conductor, ledger and database, and agents that invent.

Structures and fingerprints are random, so that every candidate is new; labels are those of `loop_agents`. Everything
a real campaign writes is written.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nearedge.bench.loop_agents import InventingAgents
from nearedge.bench.loop_clock import Clock, ClockedPool
from nearedge.conductor.conductor import Conductor
from nearedge.conductor.context import Context
from nearedge.config import CampaignConfig
from nearedge.steering import Steering
from nearedge_agents.generator import Request
from nearedge_agents.pool import Work
from nearedge_agents.scorer import Prediction, Scored
from nearedge_db.database import Database
from nearedge_db.ledger import Ledger
from nearedge_db.schema import OracleSettings
from nearedge_db.store import create_campaign
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target

FINGERPRINT_SIZE = 96
FINGERPRINT_SPREAD = 1.0
"""Per number: two random fingerprints are about 14 apart, as networks of different density are."""


@dataclass
class LoopWorld(InventingAgents):
    """One campaign in a folder, or in a database elsewhere; `conductor` makes a session of it.

    ``sections`` are those of the campaign's settings. ``seconds`` says how long a piece of work takes by the clock.
    """

    folder: Path
    sections: dict[str, Any]
    url: str
    seed: int = 0
    seconds: Callable[[str, Work], float] = lambda pool, work: 0.0
    watch: Callable[[str, Work], None] = lambda pool, work: None
    """Told of every piece of work when it ends."""
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        settings = {
            "name": "loop",
            "target": {"file": "none.csv"},
            "dir": str(self.folder),
            "seed": self.seed,
        }
        self.config = CampaignConfig.model_validate({**settings, **self.sections})
        self.database = Database.open(self.url)
        self.ledger = Ledger(self.database)
        self.oracle = make_oracle("xtb", {})
        self.random = np.random.default_rng(self.seed)
        energies = self.oracle.grid.energies
        self.spectrum = Spectrum(energies, np.exp(-0.5 * ((energies - 8.0) / 5.0) ** 2))
        with self.database.begin() as session:
            campaign = create_campaign(session, "loop", {}, seed=self.seed, absorber="C")
            session.add(
                OracleSettings(settings_hash=self.oracle.settings_hash, oracle="xtb", settings_json={})
            )
            self.campaign_id = campaign.id

    def conductor(self) -> Conductor:
        """A session with pools of this process."""
        context = Context(
            config=self.config,
            campaign_id=self.campaign_id,
            absorber="C",
            spectrum=self.spectrum,
            oracle=self.oracle,
            database=self.database,
            steering=Steering(self.config, self.url),
            target=Target.from_spectrum(self.spectrum, self.oracle.grid, "C"),
        )
        answers: dict[str, Callable[[Work], Any]] = {
            "generator": self._generate,
            "scorer": self._score,
            "labeler": self.label,
            "trainer": self.train,
        }
        pools: dict[str, Any] = {
            name: ClockedPool(name, pool.size, self.clock, self._watched(name, answers[name]), self.seconds)
            for name, pool in self.config.pools.items()
        }
        return Conductor(
            context,
            [],
            "",
            tidy_registry=lambda context, uri: None,
            nodes=lambda: [{"CPU": 1000.0}],
            pools=pools,
            wait=self.clock.wait,
        )

    def _watched(self, pool: str, answer: Callable[[Work], Any]) -> Callable[[Work], Any]:
        def answered(work: Work) -> Any:
            value = answer(work)
            self.watch(pool, work)
            return value

        return answered

    def _atoms(self, density_g_cm3: float) -> Atoms:
        """Random places in a cell of that density."""
        atoms = Atoms(self.config.generated_composition, pbc=True)
        volume_a3 = float(atoms.get_masses().sum()) * 1.66053906660 / density_g_cm3
        length_a = volume_a3 ** (1 / 3)
        atoms.set_cell(np.eye(3) * length_a)
        atoms.positions = self.random.uniform(0.0, length_a, (len(atoms), 3))
        return atoms

    def starting_structure(self, payload: dict[str, Any]) -> Atoms:
        """Random too."""
        return self._atoms(payload["density_g_cm3"])

    def _generate(self, work: Work) -> list[Atoms]:
        request: Request = work.args[0]
        return [self._atoms(density) for density in request.densities]

    def _score(self, work: Work) -> list[Any]:
        structures: list[Atoms] = work.args[0]
        if work.method == "predict":
            return [self._prediction() for _ in structures]
        return [
            Scored(
                atoms=atoms,
                prediction=self._prediction(),
                fingerprint=self.random.normal(0.0, FINGERPRINT_SPREAD, FINGERPRINT_SIZE),
                contact=1.0,
                shortest_contact_a=1.4,
                overcoordinated_fraction=0.0,
                rms_displacement_a=0.1,
                coordination={2: 0.1, 3: 0.6, 4: 0.3},
                raw_coordination={2: 0.1, 3: 0.6, 4: 0.3},
            )
            for atoms in structures
        ]

    def _prediction(self) -> Prediction:
        return Prediction(float(self.random.uniform(0.005, 0.03)), 0.002, -50.0, 0.04)
