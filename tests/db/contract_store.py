"""What the store must do on every back end, whose test class gives the ``database`` fixture."""

import pickle
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError, StatementError
from tests.db.helpers import count, in_threads

from nearedge_db import store
from nearedge_db.schema import (
    LabelRow,
    PoolUsage,
    Structure,
    TaskRow,
)
from nearedge_db.states import LabelRole, StructureOrigin


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
