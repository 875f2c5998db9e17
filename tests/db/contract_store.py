"""What the store must do on every back end, whose test class gives the ``database`` fixture."""

import pickle
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from ase import Atoms
from sqlalchemy import select, text
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError, StatementError
from tests.db.helpers import add_model, count, in_threads

from nearedge_db import store
from nearedge_db.schema import (
    CampaignStructure,
    Candidate,
    Event,
    Generation,
    LabelRow,
    PoolUsage,
    Prediction,
    Structure,
    TaskRow,
)
from nearedge_db.states import CandidateState, GenerationState, LabelRole, StructureOrigin


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


class StoreContract:
    def test_structure_is_stored_once_and_comes_back(self, database, sample):
        with database.begin() as session:
            first = sample.structure(session, seed=3)
            assert sample.structure(session, seed=3).id == first.id
            assert sample.structure(session, seed=4).id != first.id
        with database.session() as session:
            row = session.scalar(select(Structure).where(Structure.hash == first.hash))
        assert row.formula == "C4"
        assert row.density_g_cm3 == pytest.approx(4 * 12.011 * 1.66053906660 / 64.0)
        assert (row.cn2_fraction, row.cn3_fraction, row.cn4_fraction) == (0.25, 0.75, 0.0)
        np.testing.assert_array_equal(row.positions, first.positions)
        assert row.positions.dtype == np.float64
        assert row.numbers.tolist() == [6, 6, 6, 6]

    def test_label_is_shared_by_campaigns(self, database, sample):
        with database.begin() as session:
            first = sample.label(session)
            again = sample.label(session)
            assert again.id == first.id
            for name in ("a", "b"):
                campaign = sample.campaign(session, name).id
                use = store.use_label(session, campaign, first.id, "seed", 0.03)
                assert store.use_label(session, campaign, first.id, "guided", 0.9).id == use.id
        assert count(database, LabelRow) == 1
        with database.session() as session:
            assert store.get_label(session, first.structure_id, first.settings_hash).id == first.id
            assert store.get_label(session, first.structure_id, "0" * 64) is None

    def test_racing_labels_leave_one(self, database, sample):
        with database.begin() as session:
            sample.structure(session)
            sample.settings(session)

        def put(_):
            with database.begin() as session:
                return sample.label(session).id

        assert len(set(in_threads(4, put))) == 1
        assert count(database, LabelRow) == 1

    def test_racing_uses_are_numbered_without_gaps(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
            labels = [sample.label(session, seed=i).id for i in range(6)]

        def use(i):
            with database.begin() as session:
                return store.use_label(session, campaign, labels[i], LabelRole.GUIDED, 0.1).sequence

        assert sorted(in_threads(6, use)) == list(range(6))

    def test_labels_that_do_not_fit_are_refused(self, database, sample):
        numbers = {"energy_ev": 0.0, "energies_ev": np.arange(5.0), "seconds": 1.0}
        with database.begin() as session:
            structure, settings = sample.structure(session).id, sample.settings(session)
            with pytest.raises(ValueError, match="shapes"):
                store.put_label(
                    session, structure, settings, forces=np.zeros((3, 3)), xanes=np.ones((4, 5)), **numbers
                )
            with pytest.raises(ValueError, match="finite"):
                store.put_label(
                    session,
                    structure,
                    settings,
                    forces=np.full((4, 3), np.nan),
                    xanes=np.ones((4, 5)),
                    **numbers,
                )

    def test_labelled_structures(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
            settings = sample.settings(session)
            origins = (StructureOrigin.SEED, StructureOrigin.GUIDED, StructureOrigin.GUIDED)
            for seed, origin in enumerate(origins):
                label = sample.label(session, seed)
                store.link_structure(
                    session, campaign, label.structure_id, origin, f"g{seed}", seed=seed, held_out=seed == 2
                )
            other = store.put_settings(session, "gpaw", {})
        with database.session() as session:
            frames = store.labelled_structures(session, campaign, settings)
            assert [frame.info["group"] for frame in frames] == ["g0", "g1", "g2"]
            held = store.labelled_structures(session, campaign, settings, held_out=True)
            assert [frame.info["group"] for frame in held] == ["g2"]
            seeds = store.labelled_structures(session, campaign, settings, origins=[StructureOrigin.SEED])
            assert [frame.info["origin"] for frame in seeds] == ["seed"]
            assert store.labelled_structures(session, campaign, other) == []
        frame = frames[0]
        assert frame.pbc.all()
        assert frame.info["REF_energy"] == -40.0
        assert frame.arrays["REF_forces"].shape == (4, 3)
        assert frame.arrays["xanes"].shape == (4, 5)
        assert frame.info["xanes_energies"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]

    def test_target_comes_back(self, database, sample):
        energies = np.linspace(-2, 28, 121)
        with database.begin() as session:
            campaign = sample.campaign(session).id
            store.set_target(
                session,
                campaign,
                energies_ev=energies,
                intensity=np.exp(-energies),
                mask=energies > 0,
                alignment={"shift_ev": -1.5},
            )
        with database.session() as session:
            row = store.get_campaign(session, campaign)
        np.testing.assert_array_equal(row.target_energies_ev, energies)
        np.testing.assert_array_equal(row.target_mask, energies > 0)
        assert row.target_mask.dtype == bool
        assert row.alignment_json == {"shift_ev": -1.5}

    def test_one_champion_with_history(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
            first, second = (add_model(session, campaign) for _ in range(2))
            other = add_model(session, campaign, "prior")
            assert (first.sequence, second.sequence, other.sequence) == (0, 1, 0)
            assert store.champion(session, campaign, "surrogate") is None
            for model in (first, other, second):
                store.promote(session, model.id)
        with database.session() as session:
            assert store.champion(session, campaign, "surrogate").id == second.id
            assert store.champion(session, campaign, "prior").id == other.id
        with database.begin() as session:
            assert store.rollback(session, campaign, "surrogate").id == first.id
        with database.begin() as session:
            assert store.champion(session, campaign, "surrogate").id == first.id
            with pytest.raises(LookupError, match="earlier surrogate"):
                store.rollback(session, campaign, "surrogate")
            store.promote(session, second.id)
            assert store.rollback(session, campaign, "surrogate").id == first.id
            kinds = list(session.scalars(select(Event.kind).order_by(Event.id)))
        assert kinds == ["promote", "promote", "promote", "rollback", "promote", "rollback"]

    def test_two_champions_are_impossible(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
            add_model(session, campaign).champion = True
            session.flush()
            add_model(session, campaign)
        with pytest.raises(IntegrityError), database.begin() as session:
            session.execute(text("UPDATE models SET champion = TRUE"))

    def test_what_mlflow_made_of_a_model_is_added_later(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
            model = store.add_model(
                session, campaign, "prior", dataset_hash="d" * 64, n_train=1, n_held_out=1, metrics={},
                folder="models/prior/000", seed=0,
            )  # fmt: skip
            assert (model.mlflow_run_id, model.registered_version) == (None, None)
        with database.begin() as session:
            store.set_registered(session, model.id, "run-9", "nearedge-prior", 4)
        with database.session() as session:
            row = store.get_model(session, model.id)
        assert (row.mlflow_run_id, row.registered_name, row.registered_version) == (
            "run-9",
            "nearedge-prior",
            4,
        )

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

    def test_nan_metrics_are_refused(self, database, sample):
        with pytest.raises((ValueError, StatementError)), database.begin() as session:
            add_model(session, sample.campaign(session).id, metrics={"mse": float("nan")})

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

    def test_a_label_is_put_to_use_once(self, database, sample):
        with database.begin() as session:
            campaign, label = sample.campaign(session).id, sample.label(session)
            assert store.use_label_once(session, campaign, label.id, "guided", 0.1)
            assert not store.use_label_once(session, campaign, label.id, "guided", 0.2)
        with database.session() as session:
            (use,) = store.label_uses(session, campaign)
            number, spectra = store.get_spectra(session, label.structure_id, label.settings_hash)
            assert store.get_spectra(session, label.structure_id, "0" * 64) is None
        assert use.spectral_distance == 0.1
        assert number == label.id
        np.testing.assert_array_equal(spectra, label.xanes.astype("float32"))

    def test_what_was_used_before_the_models_is_kept_once(self, database, sample):
        def use(seconds):
            with database.begin() as session:
                store.add_pool_usage(
                    session, campaign, "s", "labeler", busy_seconds=seconds, capacity_seconds=10.0, tasks=1
                )

        with database.begin() as session:
            campaign = sample.campaign(session).id
            assert store.totals_since_models(session, campaign) == {}
        use(1.0)
        with database.begin() as session:
            store.mark_models_ready(session, campaign)
        use(9.0)
        with database.begin() as session:
            store.mark_models_ready(session, campaign)
            late = store.totals_since_models(session, campaign)["labeler"]
        assert (late.busy_seconds, late.capacity_seconds, late.tasks) == (9.0, 10.0, 1)

    def test_pool_usage_accumulates_over_sessions(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id

        def add(i):
            with database.begin() as session:
                store.add_pool_usage(
                    session,
                    campaign,
                    f"driver-{i % 2}",
                    "labeler",
                    busy_seconds=3.0,
                    capacity_seconds=4.0,
                    tasks=1,
                )

        assert in_threads(4, add) == [None] * 4
        assert count(database, PoolUsage) == 2
        with database.session() as session:
            totals = store.pool_totals(session, campaign)["labeler"]
        assert (totals.busy_seconds, totals.tasks, totals.occupancy) == (12.0, 4, 0.75)

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

    def test_uses_are_listed_in_order_without_reading_arrays(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
            labels = [sample.label(session, i) for i in range(3)]
            uses = [("guided", 0.04), ("seed", None), ("guided", 0.02)]
            for label, (role, distance) in zip(reversed(labels), uses, strict=True):
                store.use_label(session, campaign, label.id, role, distance)
        statements = []
        listen(database.engine, "before_cursor_execute", lambda *event: statements.append(event[2]))
        with database.session() as session:
            found = store.label_uses(session, campaign)
        assert [(use.role, use.spectral_distance) for use in found] == uses
        assert [use.structure_id for use in found] == [label.structure_id for label in reversed(labels)]
        assert any("label_uses" in statement for statement in statements)
        assert not any("xanes" in statement or "forces" in statement for statement in statements)

    def test_checks_by_another_oracle_are_not_listed_with_the_others(self, database, sample):
        """Their distances do not compare."""
        with database.begin() as session:
            campaign = sample.campaign(session).id
            store.use_label(session, campaign, sample.label(session, 0).id, "guided", 0.04)
            store.use_label(session, campaign, sample.label(session, 1).id, "confirm", 0.001)
        with database.session() as session:
            found = store.label_uses(session, campaign)
            checks = store.used_labels(session, campaign, [LabelRole.CONFIRM])
        assert [use.spectral_distance for use in found] == [0.04]
        assert [use.spectral_distance for use, _ in checks] == [0.001]

    def test_read_sessions_refuse_to_write(self, database, sample):
        with pytest.raises(RuntimeError, match="only reads"), database.session() as session:
            sample.campaign(session)

    def test_failed_transaction_keeps_nothing(self, database, sample):
        with pytest.raises(LookupError), database.begin() as session:
            store.promote(session, sample.campaign(session).id)
        with database.session() as session:
            assert store.find_campaign(session, "demo") is None

    def test_foreign_keys_hold(self, database):
        with pytest.raises(IntegrityError), database.begin() as session:
            store.add_event(session, 99, "orphan")

    def test_naive_timestamps_are_refused_and_zones_converted(self, database):
        summer = timezone(timedelta(hours=2))
        with pytest.raises(StatementError, match="time zone"), database.begin() as session:
            session.add(task_row(datetime(2026, 1, 1)))
        with database.begin() as session:
            session.add(task_row(datetime(2026, 6, 1, 14, 30, tzinfo=summer)))
        with database.session() as session:
            moment = session.scalar(select(TaskRow.created_at))
        assert moment == datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
        assert moment.utcoffset() == timedelta(0)

    def test_database_pickles_by_its_url(self, database, sample):
        with database.begin() as session:
            sample.campaign(session)
        copy = pickle.loads(pickle.dumps(database))  # noqa: S301 - our own bytes
        with copy.session() as session:
            assert store.find_campaign(session, "demo") is not None
        copy.dispose()


def task_row(created_at):
    return TaskRow(kind="label", identity="x", payload_json={}, created_at=created_at)
