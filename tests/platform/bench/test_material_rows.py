"""Rows, picture and settings of the bench ``material``, from structures without any model."""

import pytest
from ase.build import bulk

from nearedge.bench.base import BenchOptions, BenchResult, make_bench
from nearedge.bench.material import SHORT, MaterialSettings, _Made, _told
from nearedge.bench.material_picture import draw
from nearedge.bench.material_rows import MaterialPoint, contact_limit_a, material_rows
from nearedge.bench.workshop import Stages
from nearedge_db.errors import UserError

METRICS = {"prior": {"denoising_loss": 1.2}}


def silicon(seed, rattle_a=0.08, lattice_a=5.43):
    atoms = bulk("Si", "diamond", lattice_a, cubic=True)
    atoms.rattle(rattle_a, seed=seed)
    return atoms


def point(**changes):
    values = {
        "density_g_cm3": 2.3,
        "left_out": False,
        "raw": [silicon(k) for k in range(4)],
        "failures": 0,
        "seconds": 2.0,
        "refined": [silicon(k) for k in range(10, 14)],
        "displacements_a": [0.1, 0.2, 0.3],
        "reference": [silicon(k) for k in range(20, 24)],
        "rested": [silicon(k) for k in range(30, 34)],
        "start": [silicon(k, rattle_a=0.9) for k in range(4)],
        "random": [silicon(k, rattle_a=0.3) for k in range(4)],
        "energies": {
            "raw": [-49.5, -49.6],
            "refined": [-49.68],
            "reference": [-49.7, -49.72, -49.7],
            "rested": [-49.72, -49.74, -49.7],
        },
    }
    return MaterialPoint(**{**values, **changes})


def row(rows, words):
    (found,) = [row for row in rows if words in row.what]
    return found


def test_like_ensembles_pass_beside_worse_random_ones():
    rows = material_rows([point()], METRICS, "Si")
    curve = row(rows, "seen: g(r)")
    assert curve.measured == pytest.approx(1.0, abs=0.25)
    assert curve.passed
    assert curve.baseline > 1.5
    assert row(rows, "shares off").measured == 0
    assert row(rows, "reference, raw").measured == pytest.approx(0.15)
    refined = row(rows, "seen: the same, both refined")
    assert refined.measured == pytest.approx(0.04)
    assert refined.baseline == pytest.approx(0.0163, abs=1e-4)
    assert refined.passed
    assert row(rows, "mean coordination, raw").measured == 4
    assert row(rows, "mean bond angle").measured == pytest.approx(109.4, abs=0.5)
    assert row(rows, "denoising loss").baseline == 3


def test_short_contacts_count_in_the_measure_of_the_material():
    assert contact_limit_a("Si") == pytest.approx(1.665)
    assert contact_limit_a("SiC") == pytest.approx(1.14)
    near = silicon(0)
    near.positions[1] = near.positions[0] + [1.5, 0, 0]  # a good bond of carbon
    contacts = row(
        material_rows([point(raw=[silicon(1), near], failures=2)], METRICS, "Si"), "without a contact"
    )
    assert contacts.measured == pytest.approx(0.25)
    assert not contacts.passed


def test_a_good_density_does_not_hide_a_bad_one_nor_one_that_is_left_out():
    stretched = [silicon(k, lattice_a=6.2) for k in range(4)]
    bad = point(density_g_cm3=2.1, refined=stretched)
    worst = row(material_rows([point(), bad], METRICS, "Si"), "seen: g(r)")
    assert not worst.passed
    assert "2.1 g/cm³" in worst.what
    rows = material_rows([point(), point(left_out=True, refined=stretched)], METRICS, "Si")
    assert row(rows, "seen: g(r)").passed
    assert not row(rows, "left out: g(r)").passed


def test_what_could_not_be_measured_does_not_pass():
    nothing = point(refined=[], energies={**point().energies, "raw": [], "refined": []})
    rows = material_rows([nothing], METRICS, "Si")
    for words in ("seen: g(r)", "shares off", "reference, raw", "seen: the same, both"):
        assert not row(rows, words).passed


def test_the_picture_is_drawn(tmp_path):
    points = [point().record(), point(density_g_cm3=2.1, left_out=True, random=[]).record()]
    draw(BenchResult("material", [], {"unit": "Si", "points": points}), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_settings_change_what_they_name_only(tmp_path):
    for settings in (SHORT, MaterialSettings()):
        made = settings.pretraining(3)
        assert (made.unit, made.seed) == ("Si", 3)
        assert made.network_quench.temperature_k == pytest.approx(2500)
        assert made.models["prior"]["cutoff_a"] > 6
        assert {made.left_out(density) for density in settings.densities_g_cm3} == {False, True}
    options = BenchOptions(tmp_path)
    full = _Made(MaterialSettings(), options)
    short = _Made(SHORT, BenchOptions(tmp_path, short=True))
    assert full.folder != short.folder
    silicon_carbide = MaterialSettings(unit="SiC").pretraining(0)
    assert silicon_carbide.formula(64) == "Si32C32"


def test_progress_only_goes_forward():
    told = []
    stages = Stages(lambda share, what: told.append(share), {"pretraining": 1})
    stages.begin("pretraining")
    report = _told(stages, ("first networks", "potential", "models"))
    for name in ("first networks", "potential 0", "round 1", "potential 1", "models"):
        report(name, 1, 2)
    assert told == sorted(told)
    assert told[-1] < 1


def test_models_and_references_of_others_are_refused(tmp_path):
    for given in ({"models": tmp_path}, {"reference": tmp_path}):
        with pytest.raises(UserError, match="makes its own"):
            make_bench("material").run(BenchOptions(tmp_path, **given), lambda share, what: None)
