"""The numbers of a campaign, against values worked out by hand."""

import json
from dataclasses import replace

import pytest
from tests.platform.synthetic_campaign import Plan, make_campaign, make_empty_campaign

from nearedge.gate import first_word
from nearedge.labelled import energy_above_starts, late, recover
from nearedge.summary import HEADLINES, summarise
from nearedge_db.errors import UserError
from nearedge_db.states import CampaignState


@pytest.fixture
def summary(tmp_path):
    database = make_campaign(tmp_path)
    yield summarise(database, "demo")
    database.dispose()


def test_ratios_are_those_of_the_medians_and_minima(summary):
    assert summary.late_median == pytest.approx(0.009)  # of 0.010, 0.008, 0.009
    assert summary.unguided_median == pytest.approx(0.026)
    assert summary.late_over_unguided == pytest.approx(9 / 26)
    assert (summary.best_distance, summary.best_seed_distance) == pytest.approx((0.008, 0.020))
    assert summary.best_over_seed == pytest.approx(0.4)
    assert summary.best_unguided_distance == pytest.approx(0.022)
    assert summary.seed_median == pytest.approx(0.029)


def test_late_is_the_last_third_rounded_up():
    assert late([1, 2, 3, 4]) == [3, 4]
    assert late([1]) == [1]
    assert late([]) == []


def test_order_of_labelling_decides_what_is_late(tmp_path):
    database = make_campaign(tmp_path, Plan(guided=(0.008, 0.009, 0.030)))
    found = summarise(database, "demo")
    database.dispose()
    assert found.late_median == pytest.approx(0.030)
    assert found.best_distance == pytest.approx(0.008)


def test_labels_are_counted_by_role_with_what_is_on_its_way(summary):
    labels = summary.labels
    assert (labels.seed, labels.baseline, labels.guided) == (6, 3, 9)
    assert (labels.budget, labels.baseline_budget) == (9, 3)
    assert (labels.in_flight, labels.waiting) == (1, 0)


def test_occupancy_is_over_all_sessions(summary):
    assert summary.pools["labeler"].occupancy == pytest.approx(600 / 800)
    assert summary.pools["labeler"].cpu_share == pytest.approx(560 / 800)
    assert summary.pools["scorer"].occupancy == pytest.approx(100 / 400)


def test_cost_adds_up(summary):
    cost = summary.cost
    assert (cost.labels["guided"].count, cost.labels["guided"].seconds) == (9, pytest.approx(18.0))
    assert (cost.labels["seed"].count, cost.label_seconds) == (6, pytest.approx(36.0))
    assert (cost.seeds.count, cost.seeds.seconds) == (6, pytest.approx(60.0))
    assert (cost.trainings.count, cost.trainings.seconds) == (6, pytest.approx(180.0))
    assert (cost.wall_seconds, cost.active_seconds, cost.sessions) == (600.0, 400.0, 2)
    assert [(f.kind, f.reason, f.count, f.failure) for f in cost.failures] == [
        ("label", "NotConverged: 250 cycles", 1, "not converged")
    ]
    assert summary.to_json()["cost"]["failed_by_kind"] == {"not converged": 1}


def test_a_label_that_another_campaign_paid_for_is_not_billed(tmp_path):
    from sqlalchemy import select

    from nearedge_db.schema import LabelRow
    from nearedge_db.store import create_campaign, use_label

    database = make_campaign(tmp_path)
    with database.begin() as session:
        second = create_campaign(session, "second", {"name": "second"}, seed=1, absorber="C")
        label = session.scalars(select(LabelRow)).first()
        use_label(session, second.id, label.id, "guided", 0.01)
    cost = summarise(database, "second").cost.labels["guided"]
    database.dispose()
    assert (cost.count, cost.seconds, cost.reused) == (1, 0.0, 1)


def test_models_show_champion_and_headline(summary):
    surrogates = [model for model in summary.models if model.kind == "surrogate"]
    assert [model.headline for model in surrogates] == [0.009, 0.007, 0.0078]
    assert [model.champion for model in surrogates] == [False, True, False]
    assert surrogates[0].first_use_seconds >= 0
    assert surrogates[1].first_use_seconds is None


def test_rejections_are_grouped_by_the_first_word(summary):
    assert summary.rejected == {"contact": 2, "known": 1}
    assert summary.candidates["LABELLED"] == 12
    assert summary.candidates["REJECTED"] == 3
    assert first_word(None) == "unknown"


def test_recovered_properties_weigh_the_best_most(summary):
    density = summary.recovered["density_g_cm3"]
    assert density.low <= density.mean <= density.high
    assert 2.6 < density.mean < 3.0  # the plan: 3.1 − 30 d around d = 0.008 … 0.012
    assert density.structures == 9


def test_weights_of_recovered_properties_by_hand():
    from dataclasses import replace

    one = _labelled(0.01, density=3.0)
    other = replace(one, spectral_distance=0.02, density_g_cm3=2.0)
    # exp(−½·1) : exp(−½·4) = 0.6065 : 0.1353, shares 0.8176 and 0.1824
    density = recover([one, other])["density_g_cm3"]
    assert density.mean == pytest.approx(2.8176, abs=1e-4)
    assert density.spread == pytest.approx((0.8176 * 0.1824) ** 0.5, abs=1e-4)
    assert recover([]) == {}


def test_json_has_what_the_command_line_promises(summary):
    record = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    promised = {
        "state",
        "labels",
        "best_distance",
        "best_seed_distance",
        "late_over_unguided",
        "best_over_seed",
    }
    assert promised | {"pools", "cost"} <= record.keys()
    assert record["state"] == "FINISHED"
    assert record["pools"] == {"labeler": 0.75, "scorer": 0.25}


def test_a_campaign_that_has_only_begun_knows_no_ratio(tmp_path):
    database = make_empty_campaign(tmp_path)
    found = summarise(database, "empty")
    database.dispose()
    assert found.state is CampaignState.CREATED
    assert (found.late_over_unguided, found.best_over_seed, found.best_distance) == (None, None, None)
    assert found.cost.wall_seconds is None
    json.dumps(found.to_json(), allow_nan=False)


def test_a_ratio_needs_both_sides(tmp_path):
    database = make_campaign(tmp_path, Plan(baseline=()))
    found = summarise(database, "demo")
    database.dispose()
    assert found.late_median is not None
    assert found.late_over_unguided is None


def test_unknown_campaign_names_those_there_are(tmp_path):
    database = make_campaign(tmp_path)
    with pytest.raises(UserError, match="demo"):
        summarise(database, "other")
    database.dispose()


def test_headlines_are_the_models_own():
    from nearedge_services.diffusion.prior import Prior
    from nearedge_services.potential.potential import Potential
    from nearedge_services.surrogate.surrogate import Surrogate

    own = {"prior": Prior.HEADLINE, "surrogate": Surrogate.HEADLINE, "potential": Potential.HEADLINE}
    assert own == HEADLINES


def test_energy_is_compared_with_the_three_starts_nearest_in_density():
    energies = {2.0: -51.0, 2.4: -50.4, 2.5: -50.6, 2.7: -50.1, 3.4: -40.0}
    starts = [replace(_labelled(0.02, density), energy_per_atom_ev=e) for density, e in energies.items()]
    found = replace(_labelled(0.01, 2.55), energy_per_atom_ev=-50.0)
    assert energy_above_starts(found, starts) == pytest.approx(0.4)  # above the median of -50.6, -50.4, -50.1
    assert energy_above_starts(replace(found, density_g_cm3=3.3), starts) is None  # one is within 0.4 g/cm³
    assert energy_above_starts(found, starts[:2]) is None


def _labelled(distance, density):
    from nearedge.labelled import Labelled

    return Labelled(
        structure_id=1,
        label_id=1,
        role="guided",
        origin="guided",
        sequence=0,
        spectral_distance=distance,
        energy_per_atom_ev=-50.0,
        formula="C8",
        n_atoms=8,
        density_g_cm3=density,
        cn2_fraction=None,
        cn3_fraction=0.5,
        cn4_fraction=0.5,
        predicted_distance=None,
        spectral_distance_std=None,
        shortest_contact_a=None,
        oracle="xtb",
        settings_hash="h",
        prior_version=None,
        surrogate_version=None,
        potential_version=None,
        seed=0,
    )
