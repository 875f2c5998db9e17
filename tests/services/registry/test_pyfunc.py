import json
import subprocess
import sys

import pytest
from ase import Atoms

SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow
import pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/nearedge-potential@champion")
assert model.metadata.signature.outputs.has_input_names()
assert len(model.predict(model.input_example)["energy_ev"]) == 1
row = json.loads(sys.argv[2])
print("RESULT" + model.predict(pd.DataFrame([row, row])).to_json(orient="records"))
"""


@pytest.mark.slow
def test_champion_loads_in_a_fresh_process(registry, potential):
    atoms = Atoms("C3", positions=[[0, 0, 0], [1.4, 0, 0], [0, 1.5, 0.2]], cell=[5, 5, 5], pbc=True)
    row = {"numbers": [6, 6, 6], "positions": atoms.positions.tolist(), "cell": atoms.cell.array.tolist()}
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, registry.tracking_uri, json.dumps(row)],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    ).stdout
    records = json.loads(output[output.index("RESULT") + 6 :])
    expected = potential.predict([atoms])[0]
    assert len(records) == 2
    assert records[0]["energy_ev"] == pytest.approx(expected.energy_ev, abs=1e-4)
    assert records[0]["forces_ev_per_a"][1] == pytest.approx(expected.forces[1].tolist(), abs=1e-4)
    assert records[0]["energy_std_ev_per_atom"] > 0
