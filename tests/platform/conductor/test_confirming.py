"""The second oracle: it confirms, durably and once, and nothing learns from it."""

import json
from io import StringIO

import pytest
from rich.console import Console
from sqlalchemy import select
from tests.platform.conductor.fake_world import DEAR_ENERGY_EV, DEAR_SHIFT_EV
from tests.platform.conductor.sessions import assert_complete, count, roles, run, stop_after

from nearedge.confirmed import UNPLACED_EVENT, read_confirmation
from nearedge.report.data import read_report
from nearedge.report.page import render
from nearedge.status import print_summary
from nearedge.summary import summarise
from nearedge_db.query import read_only_query
from nearedge_db.schema import Event, LabelRow, LabelUse, TaskRow
from nearedge_db.states import LabelRole, TaskState
from nearedge_db.store import get_campaign, get_label, label_uses, labelled_hashes, labelled_structures

CONFIRM = {"name": "xtb", "settings": {"core_hole": "z+1"}, "best": 2, "starts": 6}
STARTS, BEST = 5, 2
"""What is confirmed of the fake world's five starting structures and four guided labels."""


@pytest.fixture
def world(make_world):
    return make_world(confirm=CONFIRM)


def confirmation(world):
    with world.database.session() as session:
        return read_confirmation(session, get_campaign(session, 1))


def dear_labels(world) -> int:
    return count(world, LabelRow, LabelRow.settings_hash == world.confirming.settings_hash)


def used_for_confirming(world) -> int:
    return count(world, LabelUse, LabelUse.role == LabelRole.CONFIRM)


def test_the_best_and_the_starting_structures_are_labelled_once_more_before_the_end(world):
    _, (reason, finished) = run(world)
    assert finished
    assert reason.startswith("budget")
    assert len(world.labels_confirming) == len(set(world.labels_confirming)) == STARTS + BEST
    assert dear_labels(world) == used_for_confirming(world) == STARTS + BEST
    with world.database.session() as session:
        guided = [use for use in label_uses(session, 1) if use.role is LabelRole.GUIDED]
    best = sorted(guided, key=lambda use: use.spectral_distance)[:BEST]
    found = confirmation(world)
    assert [one.structure_id for one in found.discovered] == [use.structure_id for use in best]
    assert [one.screening_distance for one in found.discovered] == [use.spectral_distance for use in best]


def test_a_campaign_without_a_second_oracle_is_as_before(make_world):
    world = make_world()
    run(world)
    assert_complete(world)
    assert confirmation(world) is None


def test_no_training_sees_a_label_of_the_second_oracle(world):
    """Both oracles have labelled structures that models train on: the data sets must hold the first one's numbers."""
    run(world)
    with world.database.session() as session:
        cheap = labelled_structures(session, 1, world.oracle.settings_hash)
        dear = labelled_structures(session, 1, world.confirming.settings_hash)
        trainings = session.scalars(select(TaskRow).where(TaskRow.kind == "train")).all()
        known = {row[0] for row in labelled_hashes(session, 1, world.oracle.settings_hash)}
        by_hash = {atoms.info["structure_hash"]: atoms for atoms in cheap}
        both = known & {atoms.info["structure_hash"] for atoms in dear}
        assert len(both) == STARTS + BEST
        assert len(trainings) > 3
        trained_on = set()
        for task in trainings:
            assert task.settings_hash == world.oracle.settings_hash
            trained_on |= {*task.payload_json["train"], *task.payload_json["held_out"]}
    assert trained_on & both
    assert trained_on <= known
    for structure_hash in trained_on:
        atoms = by_hash[structure_hash]
        assert atoms.info["REF_energy"] == -50.0 * len(atoms)
    assert all(atoms.info["REF_energy"] == DEAR_ENERGY_EV * len(atoms) for atoms in dear)


def test_a_structure_that_only_the_second_oracle_labelled_is_in_no_data_set(world):
    """It tries: a structure of the campaign gets a dear label and loses the cheap one."""
    run(world)
    with world.database.begin() as session:
        victim = world.labels_confirming[-1]
        cheap = get_label(session, victim, world.oracle.settings_hash)
        session.query(LabelUse).filter(LabelUse.label_id == cheap.id).delete()
        session.delete(cheap)
        session.flush()
        assert get_label(session, victim, world.confirming.settings_hash) is not None
        left = labelled_structures(session, 1, world.oracle.settings_hash)
        hashes = labelled_hashes(session, 1, world.oracle.settings_hash)
    assert victim not in {atoms.info["structure_id"] for atoms in left}
    assert len(hashes) == len(left)


def test_distances_of_the_two_oracles_never_mix(world):
    session, _ = run(world)
    measured = {facts[1] for facts in world.steering.measured.values()}
    with world.database.session() as rows:
        uses = label_uses(rows, 1)
        dear = rows.scalars(
            select(LabelUse.spectral_distance).where(LabelUse.role == LabelRole.CONFIRM)
        ).all()
    cheap = {use.spectral_distance for use in uses}
    assert None not in dear
    assert not cheap & set(dear)
    assert measured <= cheap
    assert session.context.best_distance == min(cheap)
    assert roles(world)[LabelRole.CONFIRM] == 0


def test_the_target_is_placed_on_the_energies_of_the_second_oracle(world):
    """Its edge lies 1.5 eV higher: unshifted, every distance would be large."""
    session, _ = run(world)
    found = confirmation(world)
    assert found.shift_ev == pytest.approx(-DEAR_SHIFT_EV, abs=0.3)
    assert session.confirming.target is not session.context.target
    assert found.unplaced is None
    assert max(one.distance for one in found.structures) < 0.01


def test_the_correction_foretells_the_second_oracle(world):
    run(world)
    found = confirmation(world)
    learnt = found.correction
    assert learnt.pairs == STARTS + BEST
    assert learnt.shift_ev == pytest.approx(DEAR_SHIFT_EV, abs=0.2)
    assert learnt.error < 0.5 * learnt.constant_error
    for one in found.structures:
        assert one.corrected_distance == pytest.approx(one.distance, abs=4 * learnt.error)


def test_confirmed_is_nearer_than_every_starting_structure_by_the_second_oracle(world):
    run(world)
    found = confirmation(world)
    starts = [one for one in found.structures if one.role == "seed"]
    assert len(starts) == STARTS
    for one in found.discovered:
        assert one.confirmed == (one.distance < min(start.distance for start in starts))
    assert found.confirmed == sum(one.confirmed for one in found.discovered)
    assert not any(one.confirmed for one in starts)


def test_too_few_pairs_are_said_and_no_correction_is_made(make_world):
    world = make_world(confirm={**CONFIRM, "best": 1}, seeds={"count": 4, "held_out_fraction": 0.3})
    run(world)
    found = confirmation(world)
    assert found.correction is None
    assert found.refusal.startswith("not enough pairs")
    assert all(one.corrected_distance is None for one in found.structures)


def test_a_killed_campaign_pays_for_no_confirmation_twice(world):
    stop_after(world, lambda session: len(world.labels_confirming) >= STARTS + 1)
    run(world)
    assert len(world.labels_confirming) == len(set(world.labels_confirming)) == STARTS + BEST
    assert used_for_confirming(world) == STARTS + BEST
    assert count(world, LabelUse, LabelUse.spectral_distance.is_(None)) == 0


def test_a_finished_campaign_confirms_more_when_asked_to(make_world):
    world = make_world(confirm=CONFIRM)
    run(world)
    before = list(world.labels_confirming)
    more = world.config.confirm.model_copy(update={"best": 4})
    world.config = world.config.model_copy(update={"confirm": more})
    run(world)
    assert world.labels_confirming[: len(before)] == before
    assert len(world.labels_confirming) == len(set(world.labels_confirming)) == STARTS + 4


def test_a_finished_campaign_places_the_target_anew_when_told_its_energies(make_world):
    """No label is made. The edge of the second oracle lies 1.5 eV higher than the file's: unshifted, all are far."""
    world = make_world(confirm=CONFIRM)
    run(world)
    before, labels = confirmation(world), list(world.labels_confirming)
    told = world.config.confirm.model_copy(update={"align": False})
    world.config = world.config.model_copy(update={"confirm": told})
    run(world)
    found = confirmation(world)
    assert world.labels_confirming == labels
    assert before.shift_ev is not None
    assert found.shift_ev is None
    nearest = min(one.distance for one in found.structures)
    assert nearest > 5 * max(one.distance for one in before.structures)


def test_every_confirms_on_the_way(make_world):
    world = make_world(confirm={**CONFIRM, "best": 1, "every": 1})
    stop_after(
        world,
        lambda session: session.labelling.guided_labels < 4 and len(world.labels_confirming) > STARTS,
    )
    run(world)
    assert len(world.labels_confirming) == len(set(world.labels_confirming)) > STARTS


def test_summary_status_and_report_tell_what_is_confirmed(world):
    run(world)
    found = summarise(world.database, "faked", inferring=False)
    told = json.loads(json.dumps(found.to_json()))["confirm"]
    assert (told["oracle"], told["checked"], told["confirmed"]) == ("xtb", BEST, found.confirmation.confirmed)
    assert len(told["structures"]) == STARTS + BEST
    assert told["correction"]["error"] == found.confirmation.correction.error
    console = Console(record=True, width=160, file=StringIO())
    print_summary(found, console)
    text = console.export_text()
    page = render(read_report(world.database, "faked"))
    for one in found.confirmation.discovered:
        assert f"no. {one.structure_id} " in text
    assert f"confirms {found.confirmation.confirmed} of {BEST} best structures" in text
    assert f"confirms {found.confirmation.confirmed} of {BEST} best structures" in page
    assert "Confirmed by xtb" in page


def test_the_view_sets_both_distances_side_by_side(world):
    run(world)
    query = (
        "SELECT structure_id, screened_as, spectral_distance, screening_distance FROM confirmed_structures"
    )
    _, rows = read_only_query(world.database.url, query)
    found = {
        (one.structure_id, one.role, one.distance, one.screening_distance)
        for one in confirmation(world).structures
    }
    assert set(map(tuple, rows)) == found


def test_a_confirmation_that_fails_for_good_does_not_stop_the_campaign(world):
    dear = world.confirming.settings_hash
    world.fails = lambda task: "no convergence" if task.settings_hash == dear else None
    _, (_, finished) = run(world)
    assert finished
    assert not world.labels_confirming
    failed = count(world, TaskRow, TaskRow.state == TaskState.QUARANTINED)
    assert failed == STARTS + BEST
    found = confirmation(world)
    assert found.structures == ()
    assert "too few starting structures" in found.unplaced
    assert count(world, Event, Event.kind == UNPLACED_EVENT) == 1
    assert count(world, Event, Event.kind == "confirmation failed") == STARTS + BEST
