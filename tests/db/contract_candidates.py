"""What the store must do with batches and candidates on every back end, whose test class gives ``database``."""

import numpy as np
from ase import Atoms
from sqlalchemy import select, text
from tests.db.helpers import add_model, count

from nearedge_db import store
from nearedge_db.schema import CampaignStructure, Candidate, Generation, Prediction, Structure
from nearedge_db.states import CandidateState, GenerationState, StructureOrigin


def _new_candidate(index, structure_id, score):
    return store.NewCandidate(
        index=index,
        structure_id=structure_id,
        raw_structure_id=structure_id,
        state=CandidateState.WAITING,
        reason=None,
        score=score,
        relax_rms_displacement_a=0.1,
        shortest_contact_a=1.4,
        relax_surrogate_model_id=None,
        relax_potential_model_id=None,
    )


class CandidatesContract:
    def test_a_batch_that_is_made_again_names_the_models_of_then(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
            first, better = (add_model(session, campaign, "prior").id for _ in range(2))
            generation = store.create_generation(
                session, campaign, "guided", {}, seed=1, prior_model_id=first, surrogate_model_id=first
            ).id
            store.set_generation_models(session, generation, better, None)
        with database.session() as session:
            (row,) = store.list_generations(session, campaign)
        assert (row.prior_model_id, row.surrogate_model_id) == (better, None)

    def test_candidates_are_streamed_and_rescored(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
            generation = store.create_generation(session, campaign, "guided", {"scale": 10.0}, seed=5)
            structure = sample.structure(session).id
            made = [
                store.add_candidate(session, generation.id, i, structure, score=store.Score(0.03, 0.01))
                for i in range(3)
            ]
            assert store.add_candidate(session, generation.id, 0, structure).id == made[0].id
        with database.begin() as session:
            model = add_model(session, campaign).id
            new = store.Score(0.02, 0.005, -7.0, 0.1, surrogate_model_id=model)
            store.rescore(session, {made[0].id: new})
            store.set_candidate_state(session, made[2].id, CandidateState.DROPPED, "scored too low")
            worth = np.float32(0.25)
            store.set_candidate_state(session, [made[1].id], CandidateState.QUEUED, acquisition_value=worth)
            store.set_candidate_state(session, made[1].id, CandidateState.QUEUED)
        with database.session() as session:
            waiting = store.candidates(session, campaign, [CandidateState.WAITING])
            assert [row.id for row in waiting] == [made[0].id]
            first, queued, dropped = store.candidates(session, campaign)
            assert (first.predicted_distance, first.surrogate_model_id) == (0.02, model)
            assert (first.acquisition_value, queued.acquisition_value) == (None, 0.25)
            assert dropped.reason == "scored too low"
            counts = store.candidate_counts(session, campaign)
            assert (counts[CandidateState.QUEUED], counts[CandidateState.LABELLED]) == (1, 0)
            assert store.candidate_counts(session, campaign, "guided") == counts
            assert set(store.candidate_counts(session, campaign, "baseline").values()) == {0}
            predictions = session.scalar(
                text("SELECT COUNT(*) FROM predictions WHERE candidate_id = :id"), {"id": made[0].id}
            )
            assert predictions == 2

    def test_a_whole_batch_is_entered_as_one_after_the_other_would_be(self, database, sample):
        atoms = [Atoms("C2", positions=[[0, 0, 0], [1.5, 0, 0.1 * i]], cell=[4, 4, 4]) for i in range(3)]
        score = store.Score(0.03, 0.01)
        with database.begin() as session:
            campaign = sample.campaign(session).id
            generation = store.create_generation(session, campaign, "guided", {"scale": 2.0}, seed=5)
            alone = store.put_atoms(session, atoms[1], {3: 1.0})
            rows = store.put_all_atoms(session, [(one, {3: 0.5, 2: 0.5}) for one in [*atoms, atoms[0]]])
            assert rows[1] == (alone.id, alone.hash)
            assert rows[0] == rows[3]
            new = [_new_candidate(i, rows[i][0], score if i else None) for i in range(3)]
            ids = store.add_candidates(session, generation, new)
            assert store.add_candidates(session, generation, new) == ids
            links = [
                store.Link(rows[i][0], StructureOrigin.GUIDED, rows[i][1], 7, i == 1, ids[i])
                for i in range(3)
            ]
            store.link_structures(session, campaign, links)
            store.link_structures(session, campaign, links)
        assert count(database, Structure) == 3
        assert count(database, Candidate) == 3
        assert count(database, Prediction) == 2
        assert count(database, CampaignStructure) == 3
        with database.session() as session:
            row = session.get_one(Structure, rows[2][0])
            assert (row.cn2_fraction, row.cn3_fraction, row.cn4_fraction) == (0.5, 0.5, 0.0)
            assert (row.formula, row.n_atoms) == ("C2", 2)
            np.testing.assert_array_equal(row.positions, atoms[2].positions)
            assert session.get_one(Structure, alone.id).cn3_fraction == 1.0
            link = session.scalars(select(CampaignStructure).where(CampaignStructure.held_out)).one()
            assert (link.structure_id, link.candidate_id, link.seed) == (rows[1][0], ids[1], 7)
            taken = list(store.take_up(session, campaign, [CandidateState.WAITING]))
        assert [one.candidate_id for one in taken] == [ids[i] for i in range(3)]
        assert (taken[2].structure_hash, taken[2].settings) == (rows[2][1], {"scale": 2.0})
        assert (taken[0].score.predicted_distance, taken[2].score) == (None, score)
        np.testing.assert_array_equal(taken[1].positions, atoms[1].positions)

    def test_the_end_closes_every_generation_of_its_campaign(self, database, sample):
        with database.begin() as session:
            campaign, other = sample.campaign(session).id, sample.campaign(session, "other").id
            made = [store.create_generation(session, campaign, "guided", {}, seed=i).id for i in range(3)]
            elsewhere = store.create_generation(session, other, "guided", {}, seed=0).id
            store.set_generation_state(session, made[0], GenerationState.SCORED)
            earlier = store.set_generation_state(session, made[1], GenerationState.CLOSED)
        with database.begin() as session:
            store.close_generations(session, campaign)
        with database.session() as session:
            closed = store.list_generations(session, campaign)
            assert {row.state for row in closed} == {GenerationState.CLOSED}
            assert all(row.closed_at is not None for row in closed)
            assert closed[1].closed_at == earlier
            assert session.get_one(Generation, elsewhere).state is GenerationState.OPEN
