"""Starting structures: made or given, held out by group, and enough of them."""

import pytest
from sqlalchemy import select
from tests.platform.conductor.fake_world import carbon
from tests.platform.conductor.sessions import count, roles, run

from nearedge.conductor.context import CampaignFailedError
from nearedge_db.schema import CampaignStructure, Event, Structure, TaskRow
from nearedge_db.states import LabelRole, StructureOrigin, TaskKind


def test_a_failed_starting_structure_is_left_out(world):
    failed = []

    def fails(task):
        if task.kind == TaskKind.SEED and not failed:
            failed.append(task.id)
            return "BadGeometry: overlap"
        return None

    world.fails = fails
    _, (_, finished) = run(world)
    assert finished
    assert roles(world)[LabelRole.SEED] == 4
    assert count(world, Event, Event.kind == "seed failed") == 1


def test_too_few_starting_structures_end_the_campaign(world):
    world.fails = lambda task: "BadGeometry" if task.kind == TaskKind.SEED and task.id > 3 else None
    with pytest.raises(CampaignFailedError, match=r"only 3 .*\(2 failed\)"):
        run(world)


def test_some_starting_structures_are_always_held_out(make_world):
    """Even where one over the fraction is more than there are."""
    world = make_world(seeds={"count": 4, "held_out_fraction": 0.1})
    run(world)
    held_out = (CampaignStructure.origin == StructureOrigin.SEED, CampaignStructure.held_out)
    assert count(world, CampaignStructure, *held_out) == 1


def test_own_starting_structures_are_labelled_and_groups_stay_together(world):
    starting = [carbon(seed) for seed in range(8)]
    for index, atoms in enumerate(starting):
        atoms.info["group"] = f"network {index // 2}"
    _, (_, finished) = run(world, starting=starting)
    assert finished
    assert roles(world)[LabelRole.SEED] == 8
    with world.database.session() as session:
        links = session.scalars(
            select(CampaignStructure).where(CampaignStructure.origin == StructureOrigin.SEED)
        ).all()
    sides = {}
    for link in links:
        sides.setdefault(link.group_name, set()).add(link.held_out)
    assert len(sides) == 4
    assert all(len(side) == 1 for side in sides.values())
    assert sum(True in side for side in sides.values()) >= 1


def test_the_largest_of_own_starting_structures_are_labelled_first(world):
    """They take longest, and none of them is to begin when all others are done."""
    starting = [carbon(seed).repeat((1 + seed % 3, 1, 1)) for seed in range(7)]
    conductor, _ = run(world, starting=starting)
    order = [work.args[0] for work in conductor.pools["labeler"].given[:7]]
    with world.database.session() as session:
        sizes = [
            session.get_one(Structure, session.get_one(TaskRow, number).structure_id).n_atoms
            for number in order
        ]
    assert sizes == [24, 24, 16, 16, 8, 8, 8]
