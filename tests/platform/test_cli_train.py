"""The train command: settings, split by group, files and errors."""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from ase import Atoms
from typer.testing import CliRunner

from nearedge_db.errors import UserError
from nearedge_services.structures.extxyz import write_structures
from nearedge_services.structures.labelled_by import check_one_oracle

train_module = importlib.import_module("nearedge.cli.train")


def frames(groups: int = 5, copies: int = 3) -> list[Atoms]:
    """Small carbon cells, some copies of each group."""
    result = []
    for group in range(groups):
        for copy in range(copies):
            rng = np.random.default_rng((group, copy))
            atoms = Atoms("C4", positions=rng.uniform(0, 5, (4, 3)), cell=[5, 5, 5], pbc=True)
            atoms.info["group"] = f"network-{group}"
            result.append(atoms)
    return result


def test_groups_are_never_split():
    training, unseen = train_module.split_by_group(frames(), 0.2, seed=3)
    assert len(unseen) == 3
    assert len(training) == 12
    assert {a.info["group"] for a in training}.isdisjoint({a.info["group"] for a in unseen})


def test_split_depends_on_the_seed_only():
    held_out = [
        train_module.split_by_group(frames(), 0.2, seed)[1][0].info["group"] for seed in (0, 0, 1, 2, 3, 4)
    ]
    assert held_out[0] == held_out[1]
    assert len(set(held_out)) > 1


@pytest.mark.parametrize(("groups", "share"), [(1, 0.2), (5, 0.0), (5, 1.0)])
def test_split_that_leaves_nothing_is_refused(groups, share):
    with pytest.raises(UserError):
        train_module.split_by_group(frames(groups), share, seed=0)


@pytest.mark.parametrize("kind", list(train_module.ModelKind))
def test_unknown_setting_is_named(kind):
    with pytest.raises(UserError, match="nonsense"):
        train_module.make_settings(kind, ["nonsense=1"])


@pytest.mark.parametrize("text", ["steps", "steps=many", "members=1"])
def test_unfit_values_are_refused(text):
    with pytest.raises(UserError):
        train_module.make_settings(train_module.ModelKind.surrogate, [text])


def test_overrides_reach_the_settings():
    settings = train_module.make_settings(
        train_module.ModelKind.surrogate, ["steps=12", "learning_rate=1e-4"]
    )
    assert settings.steps == 12
    assert settings.learning_rate == pytest.approx(1e-4)


@pytest.fixture
def app():
    program = typer.Typer()
    program.command()(train_module.train)
    return program


def test_writes_model_and_metrics(app, tmp_path, monkeypatch):
    """The command hands data, settings and seed to the trainer of its kind and saves what comes back."""
    seen = {}

    class Model:
        HEADLINE = "error"

        def save(self, folder):
            folder.mkdir(parents=True)
            (folder / "weights.safetensors").write_bytes(b"w")

    def train_surrogate(training, held_out, settings, seed, initial=None, progress=None):
        progress(0.5, {"loss": 1.0})
        seen.update(sizes=(len(training), len(held_out)), steps=settings.steps, seed=seed, initial=initial)
        return Model(), {"error": 0.25}

    real = train_module.import_module
    fake = SimpleNamespace(train_surrogate=train_surrogate)
    monkeypatch.setattr(
        train_module,
        "import_module",
        lambda name: fake if name.endswith("surrogate.training") else real(name),
    )
    data = tmp_path / "data.extxyz"
    write_structures(data, frames())
    arguments = ["surrogate", str(data), "-o", str(tmp_path / "models"), "--seed", "7", "--set", "steps=11"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "error (decides promotion)" in result.output
    assert seen == {"sizes": (12, 3), "steps": 11, "seed": 7, "initial": None}
    record = json.loads((tmp_path / "models" / "surrogate" / "metrics.json").read_text())
    assert record["metrics"] == {"error": 0.25}
    assert record["settings"]["steps"] == 11
    assert record["structures"] == {"train": 12, "held_out": 3}


def test_unlabelled_data_are_one_clear_error(app, tmp_path):
    data = tmp_path / "data.extxyz"
    write_structures(data, frames())
    with pytest.raises(UserError, match="nearedge label"):
        CliRunner().invoke(app, ["surrogate", str(data), "-o", str(tmp_path)], catch_exceptions=False)


def labelled_by(*made_by: tuple[str, str] | None) -> list[Atoms]:
    """A frame for each oracle and settings; None is one that does not say."""
    result = frames(groups=len(made_by), copies=1)
    for atoms, one in zip(result, made_by, strict=True):
        if one is not None:
            atoms.info.update(oracle=one[0], oracle_settings=one[1])
    return result


XTB, OTHER_XTB, GPAW = ("xtb", "a1" * 32), ("xtb", "b2" * 32), ("gpaw", "c3" * 32)


@pytest.mark.parametrize("kind", ["surrogate", "potential"])
@pytest.mark.parametrize(
    ("made_by", "told"),
    [
        ((XTB, XTB, GPAW), ("1 by gpaw with settings c3c3", "2 by xtb with settings a1a1")),
        ((XTB, OTHER_XTB), ("1 by xtb with settings a1a1", "1 by xtb with settings b2b2")),
        ((XTB, None, None), ("2 that do not say by which", "1 by xtb")),
    ],
)
def test_labels_of_different_oracles_or_settings_are_refused(app, tmp_path, kind, made_by, told):
    data = tmp_path / "data.extxyz"
    write_structures(data, labelled_by(*made_by))
    with pytest.raises(UserError, match="different oracles or settings") as caught:
        CliRunner().invoke(app, [kind, str(data), "-o", str(tmp_path / "models")], catch_exceptions=False)
    assert all(part in str(caught.value) for part in (*told, "data.extxyz", "nearedge label"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("made_by", [(XTB, XTB), (None, None)])
def test_labels_of_one_kind_are_accepted(tmp_path, made_by):
    check_one_oracle(labelled_by(*made_by), tmp_path)


def test_exports_of_a_campaign_say_their_settings_too(tmp_path):
    exported = labelled_by(XTB, XTB, XTB)
    for atoms in exported[1:]:
        atoms.info["settings_hash"] = atoms.info.pop("oracle_settings")
    check_one_oracle(exported, tmp_path)
    exported[2].info["settings_hash"] = OTHER_XTB[1]
    with pytest.raises(UserError, match="different oracles or settings"):
        check_one_oracle(exported, tmp_path)


def test_the_prior_learns_positions_of_whatever_oracle(app, tmp_path, monkeypatch):
    data = tmp_path / "data.extxyz"
    write_structures(data, labelled_by(XTB, GPAW))
    reached = []
    monkeypatch.setattr(train_module, "split_by_group", lambda *_: reached.append(1))
    CliRunner().invoke(app, ["prior", str(data), "-o", str(tmp_path / "models")])
    assert reached == [1]


@pytest.mark.parametrize("inside", [".", "below"])
def test_an_output_folder_that_is_a_file_is_told_first(app, tmp_path, inside):
    file = tmp_path / "models"
    file.write_text("")
    arguments = ["prior", str(tmp_path / "none.extxyz"), "-o", str(file / inside)]
    with pytest.raises(UserError, match="output folder"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_negative_seed_is_refused(app, tmp_path):
    result = CliRunner().invoke(app, ["prior", "data.extxyz", "-o", str(tmp_path / "m"), "--seed", "-1"])
    assert result.exit_code == 2
    assert not (tmp_path / "m").exists()


def test_import_is_light():
    code = "import sys, nearedge.cli.train; assert not {'torch', 'mace', 'mlflow', 'ase'} & set(sys.modules)"
    # nearedge.cli imports every command: only this module's own cost is judged
    program = (
        f"import sys, types; m = types.ModuleType('nearedge.cli'); m.__path__ = {train_module_folder()!r}; "
    )
    program += f"sys.modules['nearedge.cli'] = m; {code}"
    subprocess.run([sys.executable, "-c", program], check=True)


def train_module_folder() -> list[str]:
    return [str(__import__("pathlib").Path(train_module.__file__).parent)]
