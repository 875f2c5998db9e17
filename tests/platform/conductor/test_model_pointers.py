"""Every structure, label and prediction of a campaign names the models that it comes from, in the views."""

import pytest
from tests.platform.conductor.sessions import Killed, run

from nearedge_db.query import read_only_query
from nearedge_db.store import list_models


def rows(world, query):
    columns, found = read_only_query(world.database.url, query)
    return [dict(zip(columns, row, strict=True)) for row in found]


def test_labels_structures_and_predictions_point_to_their_models(world):
    run(world)
    labels = rows(world, "SELECT * FROM discovered_structures")
    for label in labels:
        models = [label[f"{kind}_model_id"] for kind in ("prior", "surrogate", "potential")]
        assert (None in models) is (label["role"] == "seed"), label["role"]
        assert (label["candidate_id"] is None) is (label["role"] == "seed")
    links = rows(world, "SELECT * FROM campaign_structures WHERE origin <> 'seed'")
    assert links
    assert all(link["candidate_id"] is not None for link in links)
    for prediction in rows(world, "SELECT * FROM prediction_models"):
        assert None not in (prediction["surrogate_model_id"], prediction["potential_model_id"])
    query = """SELECT campaign_structures.origin, structure_models.part, structure_models.kind
        FROM campaign_structures JOIN structure_models USING (structure_id, candidate_id)"""
    parts = {}
    for row in rows(world, query):
        parts.setdefault(row["origin"], set()).add((row["part"], row["kind"]))
    unguided = {
        ("sampled", "prior"),
        ("relaxed", "potential"),
        ("scored", "surrogate"),
        ("scored", "potential"),
    }
    assert parts == {
        "baseline": unguided,
        "guided": unguided | {("guided", "surrogate"), ("relaxed", "surrogate")},
    }


def test_the_models_that_relaxed_stay_when_later_ones_score(world):
    """The surrogate is retrained twice: candidates that waited were scored by more than one."""
    run(world)
    query = """SELECT candidates.id, relax_surrogate_model_id AS relaxed, MIN(predictions.surrogate_model_id) AS first,
        MAX(predictions.surrogate_model_id) AS last, candidates.surrogate_model_id AS now
        FROM candidates JOIN predictions ON predictions.candidate_id = candidates.id
        WHERE relax_surrogate_model_id IS NOT NULL GROUP BY candidates.id"""
    found = rows(world, query)
    assert any(row["last"] != row["first"] for row in found)
    assert all((row["relaxed"], row["now"]) == (row["first"], row["last"]) for row in found)


def test_a_batch_that_is_made_again_names_the_models_it_is_made_with(world):
    """The driver is killed while a guided batch is with the generator; a better surrogate comes before the next."""

    session = world.conductor()
    generate = session.pools["generator"].answer

    def answer(work):
        if work.args[0].guidance_scale > 0:
            raise Killed
        return generate(work)

    session.pools["generator"].answer = answer
    with pytest.raises(Killed):
        session.run()
    (batch,) = rows(world, "SELECT * FROM generations WHERE state = 'OPEN' AND role = 'guided' LIMIT 1")
    with world.database.begin() as session:
        old = list_models(session, 1, "surrogate")[-1]
        newer = type(old)(
            **{
                c.name: getattr(old, c.name)
                for c in old.__table__.columns
                if c.name not in ("id", "sequence")
            },
            sequence=old.sequence + 1,
        )
        old.champion = False
        session.flush()
        session.add(newer)
        session.flush()
        made = newer.id
    assert batch["surrogate_model_id"] != made
    run(world)
    (again,) = rows(world, f"SELECT * FROM generations WHERE id = {batch['id']}")
    assert again["surrogate_model_id"] == made
