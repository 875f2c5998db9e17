"""``nearedge.generate``."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from tests.platform.tiny_models import GRID, bump, write_models

import nearedge
from nearedge.cli.generate import Steps
from nearedge.generation import Failure, GenerationError, generate, generate_iter, prepare
from nearedge.generation import job as job_module
from nearedge.generation.cells import empty_starts, inpainting_starts
from nearedge.generation.settings import for_material
from nearedge_db.errors import UserError
from nearedge_services import weights
from nearedge_services.diffusion import sampler
from nearedge_services.diffusion.settings import SamplerSettings
from nearedge_services.potential.errors import NonFiniteForces
from nearedge_services.potential.potential import Potential
from nearedge_services.refinement import RefinementSettings
from nearedge_services.spectra.reading import write_spectrum
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.coordination import shortest_contact
from nearedge_services.structures.extxyz import read_structures, write_structures
from nearedge_services.surrogate.settings import SurrogateSettings
from nearedge_services.surrogate.surrogate import Surrogate

SHORT = {"first_steps": 2, "anneal": {"steps": 2}, "final_steps": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def light(models, tmp_path_factory):
    """Without the potential, which takes longest to load."""
    folder = tmp_path_factory.mktemp("light")
    for kind in ("prior", "surrogate"):
        (folder / kind).symlink_to(models / kind)
    return folder


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("conditional"), conditional=True)


@pytest.fixture
def quick(models):
    return {"models": models, "steps": 4}


def cell_of(atoms):
    return atoms.cell.array


def test_importing_the_package_is_cheap():
    code = "import sys, nearedge; print([m for m in ('torch', 'ase', 'numpy', 'ray') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert nearedge.generate is generate
    assert "generate" in dir(nearedge)
    with pytest.raises(AttributeError, match="no attribute"):
        nearedge.generates  # noqa: B018


def test_every_structure_carries_its_record(quick):
    structures = generate("C8", density=(1.6, 3.4), count=3, seed=5, **quick)
    assert [density_g_cm3(atoms) for atoms in structures] == pytest.approx([1.6, 2.5, 3.4])
    for index, atoms in enumerate(structures):
        note = atoms.info
        assert isinstance(atoms, Atoms)
        assert note["index"] == index
        assert note["density_g_cm3"] == pytest.approx(density_g_cm3(atoms))
        assert note["shortest_contact_a"] == pytest.approx(shortest_contact(atoms))
        assert note["guidance_kind"] == "none"
        assert note["sampler_steps"] == 4
        assert not note["refined"]
        predicted = Potential.load(quick["models"] / "potential").predict([atoms])[0]
        assert note["predicted_energy_per_atom_ev"] == pytest.approx(predicted.energy_ev / 8, abs=1e-5)
        assert "predicted_distance" not in note
        assert note["prior_weights"].startswith("sha256:")
        assert note["prior_weights"] != note["potential_weights"]
    assert len({atoms.info["recipe"] for atoms in structures}) == 3
    assert len({atoms.info["seed"] for atoms in structures}) == 3


def test_the_seed_decides(quick):
    first, again = (generate("C8", density=2.6, seed=1, **quick)[0] for _ in range(2))
    (other,) = generate("C8", density=2.6, seed=2, **quick)
    np.testing.assert_array_equal(first.positions, again.positions)
    assert first.info == again.info
    assert np.abs(first.positions - other.positions).max() > 0.1
    assert other.info["recipe"] != first.info["recipe"]


def test_structures_come_one_after_another(quick, monkeypatch):
    sampled = []
    genuine = sampler.sample

    def counting(prior, starts, *rest):
        sampled.append(len(starts))
        return genuine(prior, starts, *rest)

    monkeypatch.setattr(sampler, "sample", counting)
    monkeypatch.setattr(job_module, "ATOMS_AT_ONCE", 16)
    stream = generate_iter("C8", density=2.6, count=5, **quick)
    assert sampled == []
    assert next(stream).info["index"] == 0
    assert sampled == [2]
    assert [atoms.info["index"] for atoms in stream] == [1, 2, 3, 4]
    assert sampled == [2, 2, 1]


def test_refined_structures_say_how_far_they_went(quick):
    (raw,) = generate("C8", density=2.6, **quick)
    (refined,) = generate("C8", density=2.6, refine=SHORT, **quick)
    note = refined.info
    assert note["refined"]
    assert note["raw_energy_per_atom_ev"] == pytest.approx(raw.info["predicted_energy_per_atom_ev"], abs=1e-4)
    assert 0 < note["refined_rms_displacement_a"] <= note["refined_max_displacement_a"]
    assert note["refinement_status"] == "out of steps"
    assert np.abs(refined.positions - raw.positions).max() > 1e-4
    assert prepare("C8", density=2.6, refine={}, **quick).refinement == RefinementSettings()


def test_another_material_is_annealed_at_its_own_temperatures():
    carbon, silicon = RefinementSettings(), for_material(RefinementSettings(), Atoms("Si8"))
    assert for_material(carbon, Atoms("C8")) == carbon
    assert silicon.anneal == carbon.anneal.scaled(0.5)
    given = RefinementSettings.model_validate({"anneal": {"start_k": 900.0}})
    assert for_material(given, Atoms("Si8")) is given
    assert for_material(RefinementSettings(anneal=None), Atoms("Si8")).anneal is None


@pytest.mark.parametrize("form", ["path", "Spectrum", "Target", "columns", "grid"])
def test_a_target_in_any_form(quick, form, tmp_path):
    spectrum = Spectrum(GRID.energies, bump(8.0))
    write_spectrum(tmp_path / "t.csv", spectrum)
    forms = {
        "path": tmp_path / "t.csv",
        "Spectrum": spectrum,
        "Target": Target.from_spectrum(spectrum, GRID, "C"),
        "columns": np.stack([GRID.energies, bump(8.0)], axis=1),
        "grid": bump(8.0).tolist(),
    }
    (atoms,) = generate("C8", density=2.6, target=forms[form], guidance=3.0, **quick)
    (judged,) = generate("C8", density=2.6, target=forms["Target"], guidance=0.0, **quick)
    assert atoms.info["guidance_kind"] == "surrogate"
    assert atoms.info["guidance_scale"] == 3.0
    assert atoms.info["predicted_distance"] > 0
    assert atoms.info["predicted_distance_std"] > 0
    assert atoms.info["surrogate_weights"].startswith("sha256:")
    assert judged.info["guidance_kind"] == "none"
    assert judged.info["predicted_distance"] != atoms.info["predicted_distance"]


def test_kinds_of_guidance(conditional):
    options = {"density": 2.6, "target": bump(8.0), "models": conditional, "steps": 8}
    (free,) = generate("C8", guidance=0.0, **options)
    for kind in ("surrogate", "noise-aware", "classifier-free", "both"):
        (atoms,) = generate("C8", guidance_kind=kind, guidance=30.0, **options)
        assert atoms.info["guidance_kind"] == kind
        assert np.abs(atoms.positions - free.positions).max() > 1e-5


def test_guided_structures_are_refined_towards_the_target(quick):
    options = {"density": 2.6, "target": bump(8.0), "seed": 3, **quick}
    strong = SHORT | {"spectral_weight_ev": 300.0, "final_steps": 20, "final_fmax_ev_per_a": 1e-4}
    (alone,) = generate("C8", guidance=1.0, refine=strong | {"spectral_weight_ev": 0.0}, **options)
    (both,) = generate("C8", guidance=1.0, refine=strong, **options)
    assert both.info["raw_predicted_distance"] == pytest.approx(alone.info["raw_predicted_distance"])
    assert both.info["predicted_distance"] < alone.info["predicted_distance"]


def test_fixed_atoms_stay(quick):
    rng = np.random.default_rng(0)
    start = Atoms("C8", positions=rng.random((8, 3)) * 4, cell=[4, 4, 4], pbc=True)
    start.arrays["REF_forces"] = np.zeros((8, 3))
    (by_index,) = generate(start=start, fixed=[0, 5], refine=SHORT, **quick)
    start.set_constraint(FixAtoms([0, 5]))
    (by_constraint,) = generate(start=start, refine=SHORT, **quick)
    for atoms in (by_index, by_constraint):
        np.testing.assert_allclose(atoms.positions[[0, 5]], start.positions[[0, 5]], atol=1e-5)
        assert np.abs(atoms.positions - start.positions)[[1, 2, 3]].max() > 0.1
        assert "REF_forces" not in atoms.arrays
        assert atoms.arrays["fixed"].tolist() == [i in {0, 5} for i in range(8)]


def test_atoms_are_added_to_a_start(quick, tmp_path):
    start = Atoms("C2", positions=[[1, 1, 1], [2.4, 1, 1]], cell=[4, 4, 4], pbc=True)
    write_structures(tmp_path / "start.extxyz", [start])
    structures = generate(start=tmp_path / "start.extxyz", atoms=6, count=2, **quick)
    for atoms in structures:
        assert len(atoms) == 6
        np.testing.assert_allclose(atoms.positions[:2], start.positions, atol=1e-5)


def test_failed_structures_are_reported_and_the_others_kept(quick, monkeypatch):
    genuine = sampler.sample

    def failing(prior, starts, settings, seeds, guidance):
        done = genuine(prior, starts, settings, seeds, guidance)
        raise sampler.SamplingError({1: "NaN at 0.3 Å"}, {k: a for k, a in enumerate(done) if k != 1})

    monkeypatch.setattr(sampler, "sample", failing)
    options = {"density": 2.6, "count": 3, **quick}
    with pytest.raises(GenerationError, match=r"structure 1 \(seed \d+\): NaN at 0.3") as caught:
        generate("C8", **options)
    assert [atoms.info["index"] for atoms in caught.value.completed] == [0, 2]
    failures = []
    assert len(generate("C8", on_failure=failures.append, **options)) == 2
    assert failures == caught.value.failures == [Failure(1, failures[0].seed, "NaN at 0.3 Å")]


def test_a_structure_without_a_finite_energy_is_reported(quick, monkeypatch):
    genuine = Potential.predict
    places = []

    def spoilt(self, structures):
        if any(np.allclose(atoms.positions, places[1]) for atoms in structures):
            raise NonFiniteForces("not finite")
        return genuine(self, structures)

    places += [atoms.positions for atoms in generate("C8", density=2.6, count=3, **quick)]
    monkeypatch.setattr(Potential, "predict", spoilt)
    failures = []
    whole = generate("C8", density=2.6, count=3, on_failure=failures.append, **quick)
    assert [atoms.info["index"] for atoms in whole] == [0, 2]
    assert failures[0].index == 1
    assert "no finite energy" in failures[0].reason
    np.testing.assert_allclose(failures[0].atoms.positions, places[1])


def test_a_refinement_that_explodes_keeps_the_raw_structure(quick):
    failures = []
    whole = generate(
        "C8", density=2.6, refine=SHORT | {"max_displacement_a": 1e-6}, on_failure=failures.append, **quick
    )
    assert whole == []
    assert "refinement: exploded" in failures[0].reason
    assert len(failures[0].atoms) == 8


def test_records_survive_the_file(quick, tmp_path):
    written = generate("C8", density=2.6, count=2, seed=1, target=bump(8.0), refine=SHORT, **quick)
    write_structures(tmp_path / "a.extxyz", written)
    for before, after in zip(written, read_structures(tmp_path / "a.extxyz"), strict=True):
        assert before.info.keys() <= after.info.keys()
        for key, value in before.info.items():
            assert after.info[key] == (pytest.approx(value) if isinstance(value, float) else value)


def test_the_recipe_tells_settings_apart(models, light):
    def recipe(**changes):
        folder = models if "refine" in changes else light
        options = {"density": 2.6, "models": folder, "steps": 4, "target": bump(8.0)} | changes
        return prepare("C8", **options).recipes[0]

    recipes = [
        recipe(),
        recipe(density=2.7),
        recipe(seed=1),
        recipe(steps=5),
        recipe(guidance=2.0),
        recipe(target=bump(9.0)),
        recipe(refine=True),
        recipe(refine={"final_steps": 3}),
        recipe(sampler={"churn": 0.1}),
        recipe(atoms=9),
    ]
    assert len(set(recipes)) == len(recipes)
    assert recipe() == recipes[0]
    few, more = (prepare("C8", density=2.6, count=count, models=light).recipes for count in (2, 4))
    assert few == more[:2]


def test_shipped_weights_serve_without_a_folder(models, monkeypatch):
    monkeypatch.setattr(
        weights, "shipped", lambda kind, elements: models / kind if list(elements) == ["C"] else None
    )
    (atoms,) = generate(atoms=8, density=2.6, steps=2)
    assert atoms.get_chemical_formula() == "C8"
    with pytest.raises(UserError, match="no trained model for these elements"):
        generate("SiC", density=3.0)


def test_cells():
    (cube,) = empty_starts("C64", density=2.6)
    assert len(cube) == 64
    assert density_g_cm3(cube) == pytest.approx(2.6)
    assert [len(a) for a in empty_starts("SiC", atoms=16, density=3.0, count=2)] == [16, 16]
    (box,) = empty_starts("C", cell=[5, 6, 7], atoms=30)
    np.testing.assert_allclose(cell_of(box), np.diag([5, 6, 7]))
    oblique = [[5, 0, 0], [1, 5, 0], [0, 0, 5]]
    (filled,) = empty_starts("C4", cell=oblique, density=2.6)
    assert density_g_cm3(filled) == pytest.approx(2.6, abs=0.1)
    listed = empty_starts("C8", density=[1.6, 2.6], count=4)
    assert [density_g_cm3(a) for a in listed] == pytest.approx([1.6, 2.6, 1.6, 2.6])
    assert len(empty_starts("C8", density=[1.6, 2.6])) == 2
    (middle,) = empty_starts("C8", density=(2.0, 3.0))
    assert density_g_cm3(middle) == pytest.approx(2.5)


START = Atoms("C4", positions=np.eye(4, 3) * 2, cell=[4, 4, 4], pbc=True)

WRONG = {
    "neither density nor cell": {"composition": "C8"},
    "contradict": {"composition": "C", "atoms": 8, "density": 2.6, "cell": [4, 4, 4]},
    "no multiple of the unit Si1C1": {"composition": "SiC", "atoms": 15, "density": 3.0},
    "number of atoms must be one": {"composition": "C", "atoms": 0, "density": 2.6},
    "structures must be one": {"composition": "C8", "density": 2.6, "count": 0},
    "density is out of range": {"composition": "C8", "density": -1.0},
    "range of densities": {"composition": "C8", "density": (3.0, 2.0)},
    "fill the number of structures": {"composition": "C8", "density": [2.0, 3.0], "count": 3},
    "cell is not readable": {"composition": "C8", "cell": [4, 4]},
    "left-handed": {"composition": "C8", "cell": [4, -4, 4]},
    "too small for its density": {"composition": "C", "cell": [1.2, 1.2, 1.2], "density": 0.01},
    "composition is not readable": {"composition": "8C", "density": 2.6},
    "seed must be": {"composition": "C8", "density": 2.6, "seed": -1},
    "no such kind of guidance": {"composition": "C8", "density": 2.6, "guidance_kind": "magic"},
    "guidance needs a spectrum": {"composition": "C8", "density": 2.6, "guidance": 3.0},
    "zero or more": {"composition": "C8", "density": 2.6, "guidance": np.nan, "target": bump(8)},
    "wrong shape": {"composition": "C8", "density": 2.6, "target": np.ones((3, 3))},
    "is no spectrum": {"composition": "C8", "density": 2.6, "target": object()},
    "spectrum file does not exist": {"composition": "C8", "density": 2.6, "target": "no.csv"},
    "absorber is not in the cell": {"composition": "C8", "density": 2.6, "target": bump(8), "absorber": "O"},
    "trained without a condition": {
        "composition": "C8", "density": 2.6, "target": bump(8), "guidance_kind": "classifier-free",
    },
    "cannot judge noisy positions": {
        "composition": "C8", "density": 2.6, "target": bump(8), "guidance_kind": "noise-aware",
    },
    "SamplerSettings are wrong at churn": {"composition": "C8", "density": 2.6, "sampler": {"churn": -1}},
    "RefinementSettings are wrong at stepps": {"composition": "C8", "density": 2.6, "refine": {"stepps": 1}},
    "does not know these elements": {"composition": "Si4", "density": 2.6},
    "start has its own cell": {"start": START, "fixed": [0], "density": 2.6},
    "fixed atoms need a start": {"composition": "C8", "density": 2.6, "fixed": [0]},
    "nothing of the start stays": {"start": START},
    "nothing is left": {"start": START, "fixed": [0, 1, 2, 3]},
    "fixed atom is not in the start": {"start": START, "fixed": [7]},
    "fixed atoms are not readable": {"start": START, "fixed": [0.5]},
    "has that many atoms already": {"start": START, "atoms": 4},
    "no periodic cell": {"start": Atoms("C4"), "fixed": [0]},
    "structure file does not exist": {"start": "no.extxyz", "fixed": [0]},
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_refused_at_once(message, light, monkeypatch):
    monkeypatch.setattr(sampler, "sample", None)
    with pytest.raises(UserError, match=message) as caught:
        generate_iter(**{"models": light} | WRONG[message])
    assert "\n" not in str(caught.value)


def test_a_cell_that_is_too_large_for_the_surrogate(models, monkeypatch):
    exact = replace(Surrogate.load(models / "surrogate"), settings=SurrogateSettings(tight_binding=True))
    monkeypatch.setattr(Surrogate, "load", lambda folder: exact)
    with pytest.raises(UserError, match="too large for the surrogate"):
        prepare("C", atoms=2000, density=2.6, models=models, target=bump(8.0))


def test_missing_models(tmp_path, light):
    with pytest.raises(UserError, match="no prior here"):
        generate("C8", density=2.6, models=tmp_path)
    (atoms,) = generate("C8", density=2.6, models=light, steps=2)
    assert "predicted_energy_per_atom_ev" not in atoms.info
    with pytest.raises(UserError, match="no potential beside the prior"):
        generate("C8", density=2.6, models=light, refine=True)
    (tmp_path / "prior").symlink_to(light / "prior")
    with pytest.raises(UserError, match="no surrogate beside the prior"):
        generate("C8", density=2.6, models=tmp_path, target=bump(8.0))


def test_a_start_of_several_elements_does_not_say_what_to_add():
    start = Atoms("SiC", positions=[[0, 0, 0], [1.8, 0, 0]], cell=[4, 4, 4], pbc=True)
    with pytest.raises(UserError, match="open what is added"):
        inpainting_starts(start, atoms=6)
    (grown,) = inpainting_starts(start, atoms=6, composition="SiC")
    assert grown.get_chemical_formula() == "C3Si3"
    (some,) = inpainting_starts(start, [1], atoms=6, composition="C")
    assert some.arrays["fixed"].tolist() == [False, True, False, False, False, False]


def test_the_help_names_the_default_number_of_evaluations():
    """Both texts are written by hand, so that reading them loads no networks."""
    words = f"default {SamplerSettings().steps}."
    assert words in generate.__doc__
    assert words in Steps.__metadata__[0].help
