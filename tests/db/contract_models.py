"""What the store must do with models on every back end, whose test class gives the ``database`` fixture."""

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, StatementError
from tests.db.helpers import add_model

from nearedge_db import store
from nearedge_db.schema import Event


class ModelsContract:
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

    def test_nan_metrics_are_refused(self, database, sample):
        with pytest.raises((ValueError, StatementError)), database.begin() as session:
            add_model(session, sample.campaign(session).id, metrics={"mse": float("nan")})
