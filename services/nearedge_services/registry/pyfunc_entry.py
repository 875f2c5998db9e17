"""The code MLflow runs when it loads a registered model:
`mlflow.pyfunc.load_model("models:/nearedge-…@champion")`.

A model predicts on a DataFrame (or a list of records) with one structure a row:

- `numbers`: list of N atomic numbers; `cell`: 3 × 3 list, Å; `positions`: N × 3 list, Å (not for the prior).
- potential → `energy_ev`, `energy_std_ev_per_atom`, `forces_ev_per_a` (N × 3), `max_force_std_ev_per_a`.
- surrogate, with an optional column `absorber` (by default the first it knows) → `energies_ev` (G),
  `cell_mean`
  (G, 1/eV, area-normalised) and `cell_mean_std` (G, calibrated).
- prior, with an optional column `seed` (by default the row's position) → `numbers`, `cell`, `positions`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

Table = Callable[[pd.DataFrame], pd.DataFrame]


class NearEdgeModel(PythonModel):
    """One registered model of any kind; which one says the pyfunc's model config."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights once, when MLflow loads the model."""
        folder = context.artifacts["weights"]
        loaders = {"potential": _potential, "surrogate": _surrogate, "prior": _prior}
        self._predict = loaders[context.model_config["kind"]](folder)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """One row out for every row in; see the module's text for the columns."""
        return self._predict(pd.DataFrame(model_input))


def _structures(table: pd.DataFrame) -> list[Atoms]:
    placed = table["positions"] if "positions" in table else [None] * len(table)
    return [
        Atoms(
            numbers=np.asarray(numbers, dtype=int),
            positions=None if positions is None else _matrix(positions),
            cell=_matrix(cell),
            pbc=True,
        )
        for numbers, positions, cell in zip(table["numbers"], placed, table["cell"], strict=True)
    ]


def _matrix(rows: Any) -> np.ndarray:
    """Nested sequences, of lists or of arrays as MLflow makes them, as (n,3)."""
    return np.array([np.asarray(row, dtype=float) for row in rows])


def _potential(folder: str) -> Table:
    from nearedge_services.potential.potential import Potential

    potential = Potential.load(folder)

    def predict(table: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "energy_ev": prediction.energy_ev,
                "energy_std_ev_per_atom": prediction.energy_std_ev_per_atom,
                "forces_ev_per_a": prediction.forces.tolist(),
                "max_force_std_ev_per_a": prediction.max_force_std,
            }
            for prediction in potential.predict(_structures(table))
        )

    return predict


def _surrogate(folder: str) -> Table:
    from nearedge_services.surrogate.surrogate import Surrogate

    surrogate = Surrogate.load(folder)

    def predict(table: pd.DataFrame) -> pd.DataFrame:
        absorbers = table["absorber"] if "absorber" in table else [surrogate.absorbers[0]] * len(table)
        rows = []
        for atoms, absorber in zip(_structures(table), absorbers, strict=True):
            members = surrogate.member_cell_means([atoms], absorber)
            spread = surrogate.calibration.spectrum.std(members.std(0, ddof=1))
            rows.append(
                {
                    "energies_ev": surrogate.grid.energies.tolist(),
                    "cell_mean": members.mean(0)[0].tolist(),
                    "cell_mean_std": spread[0].tolist(),
                }
            )
        return pd.DataFrame(rows)

    return predict


def _prior(folder: str) -> Table:
    from nearedge_services.diffusion.prior import Prior
    from nearedge_services.diffusion.sampler import sample
    from nearedge_services.diffusion.settings import SamplerSettings

    prior = Prior.load(folder)

    def predict(table: pd.DataFrame) -> pd.DataFrame:
        seeds = [int(s) for s in table["seed"]] if "seed" in table else list(range(len(table)))
        return pd.DataFrame(
            {
                "numbers": atoms.numbers.tolist(),
                "cell": atoms.cell.array.tolist(),
                "positions": atoms.positions.tolist(),
            }
            for atoms in sample(prior, _structures(table), SamplerSettings(max_atoms_per_batch=1024), seeds)
        )

    return predict


set_model(NearEdgeModel())
