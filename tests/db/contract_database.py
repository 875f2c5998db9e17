"""What migrations, views and queries must do on every back end, whose test class gives ``database``."""

import re
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text
from tests.db.helpers import add_model, in_threads

from nearedge_db import store
from nearedge_db.errors import UserError
from nearedge_db.ledger import Ledger
from nearedge_db.migrate import VERSION_TABLE, downgrade, head
from nearedge_db.query import read_only_query
from nearedge_db.schema import Base, Event, LabelRow, LabelUse
from nearedge_db.states import StructureOrigin
from nearedge_db.views import VIEWS

KINDS = ("prior", "surrogate", "potential")


def sample_seed(session, campaign):
    """Structure of the campaign's first label, which is of a starting structure."""
    return session.scalar(
        select(LabelRow.structure_id)
        .join(LabelUse, LabelUse.label_id == LabelRow.id)
        .where(LabelUse.campaign_id == campaign)
        .order_by(LabelUse.sequence)
        .limit(1)
    )


class MigrationContract:
    def test_tables_are_those_of_the_schema(self, database):
        options = {"compare_type": True, "version_table": VERSION_TABLE}
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, Base.metadata) == []
        assert database.revision() == head()

    def test_down_and_up_again(self, database, sample):
        with database.begin() as session:
            sample.campaign(session)
            downgrade(session.connection(), "base")
        with database.engine.connect() as connection:
            assert not database.engine.dialect.has_table(connection, "campaigns")
        assert database.revision() is None
        database.upgrade()
        with database.begin() as session:
            sample.campaign(session)
            assert session.execute(text("SELECT * FROM discovered_structures")).all() == []

    @pytest.mark.parametrize("revision", ["0003", "0004"])
    def test_views_of_an_older_revision_are_made_anew(self, database, sample, revision):
        with database.begin() as session:
            sample.campaign(session)
            downgrade(session.connection(), revision)
            session.execute(text("CREATE VIEW discovered_structures AS SELECT name AS old FROM campaigns"))
        assert database.revision() == revision
        database.upgrade()
        with database.begin() as session:
            assert database.revision() == head()
            assert set(inspect(session.connection()).get_view_names()) == set(VIEWS)
            assert session.execute(text("SELECT structure_id FROM discovered_structures")).all() == []
            assert session.execute(text("SELECT structure_id FROM confirmed_structures")).all() == []
            assert session.execute(text("SELECT name FROM campaigns")).all() != []

    def test_newer_revision_is_refused(self, database):
        with database.begin() as session:
            session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        with pytest.raises(UserError, match=r"newer NearEdge; got revision 9999.*pip install --upgrade"):
            type(database).open(database.url)

    def test_racing_opens_migrate_once(self, database):
        with database.begin() as session:
            downgrade(session.connection(), "base")
        opened = in_threads(4, lambda _: type(database).open(database.url))
        assert [other.revision() for other in opened] == [head()] * 4
        for other in opened:
            other.dispose()


class ViewsContract:
    @pytest.fixture
    def campaign(self, database, sample):
        """Two seeds and one guided structure, labelled, and what scored the guided one."""
        with database.begin() as session:
            campaign = sample.campaign(session).id
            models = {kind: add_model(session, campaign, kind, version=v) for v, kind in enumerate(KINDS, 1)}
            settings = sample.settings(session)
            generation = store.create_generation(
                session,
                campaign,
                "guided",
                {},
                seed=5,
                prior_model_id=models["prior"].id,
                surrogate_model_id=models["surrogate"].id,
            )
            rows = [("seed", 0.05), ("seed", 0.04), ("guided", 0.045), ("guided", 0.02)]
            for i, (role, distance) in enumerate(rows):
                label, made = sample.label(session, i), None
                if role == "guided":
                    score = store.Score(
                        0.03,
                        0.004,
                        surrogate_model_id=models["surrogate"].id,
                        potential_model_id=models["potential"].id,
                    )
                    made = store.add_candidate(
                        session,
                        generation.id,
                        i,
                        label.structure_id,
                        raw_structure_id=sample.structure(session, 100 + i).id,
                        score=score,
                        relax_potential_model_id=models["potential"].id,
                    ).id
                origin = StructureOrigin(role)
                store.link_structure(
                    session, campaign, label.structure_id, origin, f"g{i}", seed=i, candidate_id=made
                )
                store.use_label(session, campaign, label.id, role, distance, made)
        ledger = Ledger(database)
        task = ledger.submit(
            "label", "l", {}, campaign_id=campaign, structure_id=label.structure_id, settings_hash=settings
        )
        ledger.lease("w", task_id=task.id)
        ledger.fail(task.id, "w", "no convergence", retryable=False)
        return campaign

    def rows(self, database, query):
        columns, rows = read_only_query(database.url, query)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def test_discovered_structures(self, database, campaign):
        rows = self.rows(database, "SELECT * FROM discovered_structures ORDER BY spectral_distance")
        assert [row["origin"] for row in rows] == ["guided", "seed", "guided", "seed"]
        best, seed = rows[0], rows[1]
        assert best["energy_per_atom_ev"] == -10.0
        assert best["spectral_distance_std"] == 0.004
        assert (best["prior_version"], best["surrogate_version"], best["potential_version"]) == (1, 2, 3)
        assert (best["mlflow_run_id"], best["oracle"], best["campaign"]) == ("run-7", "xtb", "demo")
        assert seed["spectral_distance_std"] is None
        assert seed["mlflow_run_id"] is None
        promised = (
            "structure_id campaign formula n_atoms density_g_cm3 energy_per_atom_ev spectral_distance "
            "spectral_distance_std cn2_fraction cn3_fraction cn4_fraction oracle settings_hash "
            "surrogate_version potential_version prior_version origin seed mlflow_run_id created_at"
        )
        assert list(best)[: len(promised.split())] == promised.split()

    def test_a_structure_generated_twice_is_one_row(self, database, campaign):
        with database.begin() as session:
            again = store.candidates(session, campaign)[0]
            store.add_candidate(session, again.generation_id, 77, again.structure_id)
        assert len(self.rows(database, "SELECT * FROM discovered_structures")) == 4

    def test_a_label_keeps_the_models_that_chose_its_structure(self, database, campaign):
        """Also where the same structure is generated and scored again by later ones."""
        with database.begin() as session:
            later = add_model(session, campaign, "surrogate", version=9)
            first = store.candidates(session, campaign)[0]
            store.add_candidate(
                session,
                first.generation_id,
                77,
                first.structure_id,
                score=store.Score(0.1, 0.1, None, None, later.id),
            )
            seed = sample_seed(session, campaign)
            store.add_candidate(
                session, first.generation_id, 78, seed, score=store.Score(0.1, 0.1, None, None, later.id)
            )
        rows = self.rows(database, "SELECT * FROM discovered_structures WHERE surrogate_version IS NOT NULL")
        assert [row["surrogate_version"] for row in rows] == [2, 2]
        assert {row["role"] for row in rows} == {"guided"}

    def test_every_label_and_structure_points_to_model_and_run(self, database, campaign):
        for row in self.rows(database, "SELECT * FROM discovered_structures WHERE role = 'guided'"):
            assert [row[f"{kind}_model_id"] for kind in KINDS] == [1, 2, 3]
            assert {row[f"{kind}_run_id"] for kind in KINDS} == {"run-7"}
        query = "SELECT * FROM structure_models WHERE structure_id = {} ORDER BY part, kind"
        links = self.rows(
            database, "SELECT * FROM campaign_structures WHERE candidate_id IS NOT NULL ORDER BY id"
        )
        assert len(links) == 2
        for link in links:
            uses = self.rows(database, query.format(link["structure_id"]))
            assert [(use["part"], use["kind"], use["registered_version"]) for use in uses] == [
                ("guided", "surrogate", 2),
                ("relaxed", "potential", 3),
                ("sampled", "prior", 1),
                ("scored", "potential", 3),
                ("scored", "surrogate", 2),
            ]
            assert {(use["candidate_id"], use["mlflow_run_id"]) for use in uses} == {
                (link["candidate_id"], "run-7")
            }
            (raw,) = self.rows(
                database, f"SELECT raw_structure_id AS id FROM candidates WHERE id = {link['candidate_id']}"
            )
            parts = [use["part"] for use in self.rows(database, query.format(raw["id"]))]
            assert parts == ["guided", "sampled"]

    def test_every_prediction_points_to_model_and_run(self, database, campaign):
        rows = self.rows(database, "SELECT * FROM prediction_models ORDER BY prediction_id")
        assert [(row["surrogate_version"], row["potential_version"]) for row in rows] == [(2, 3), (2, 3)]
        assert {row["surrogate_run_id"] for row in rows} == {"run-7"}
        assert [row["distance"] for row in rows] == [0.03, 0.03]

    def test_an_older_database_gets_its_pointers(self, database, campaign):
        """Down to before there were any and up again: they are what is known from the candidates."""
        tables = {
            "label_uses": "candidate_id",
            "campaign_structures": "candidate_id",
            "candidates": "relax_potential_model_id",
        }
        query = "SELECT id, {} AS pointer FROM {} ORDER BY id"
        before = {t: self.rows(database, query.format(column, t)) for t, column in tables.items()}
        with database.begin() as session:
            downgrade(session.connection(), "0002")
            columns = {c["name"] for c in inspect(session.connection()).get_columns("label_uses")}
            assert "candidate_id" not in columns
        assert database.revision() == "0002"
        database.upgrade()
        assert {t: self.rows(database, query.format(column, t)) for t, column in tables.items()} == before
        (made,) = self.rows(database, "SELECT MIN(relax_surrogate_model_id) AS kept FROM candidates")
        assert made["kept"] == 2

    def test_labels_ledger(self, database, campaign):
        (row,) = self.rows(database, "SELECT * FROM labels_ledger")
        assert (row["oracle"], row["state"], row["attempts"]) == ("xtb", "QUARANTINED", 1)
        assert row["error"] == "no convergence"
        assert len(row["structure_hash"]) == 64

    def test_label_attempts(self, database, campaign):
        (row,) = self.rows(database, "SELECT * FROM label_attempts")
        assert (row["oracle"], row["number"], row["outcome"]) == ("xtb", 1, "crash")
        assert (row["reason"], row["n_atoms"] > 0) == ("no convergence", True)
        assert row["seconds"] >= 0

    def test_campaign_progress(self, database, campaign):
        rows = self.rows(database, "SELECT * FROM campaign_progress ORDER BY sequence")
        assert [row["best_so_far"] for row in rows] == [0.05, 0.04, 0.04, 0.02]

    def test_models_and_pools(self, database, campaign):
        with database.begin() as session:
            store.add_pool_usage(session, campaign, "s", "scorer", busy_seconds=1.0, capacity_seconds=4.0)
        (pool,) = self.rows(database, "SELECT * FROM pool_occupancy")
        assert (pool["pool"], pool["occupancy"]) == ("scorer", 0.25)
        kinds = self.rows(database, "SELECT kind FROM model_versions ORDER BY model_id")
        assert [row["kind"] for row in kinds] == list(KINDS)


class QueryContract:
    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM campaigns",
            "INSERT INTO campaigns (name) VALUES ('x')",
            "UPDATE campaigns SET name = 'x'",
            "DROP TABLE campaigns",
            "DROP VIEW discovered_structures",
            "CREATE TABLE t (x INTEGER)",
            "CREATE TEMP TABLE t (x INTEGER)",
            "SELECT 1; DELETE FROM campaigns",
            "SELECT 1; COMMIT; DELETE FROM campaigns",
            "COMMIT",
            "VACUUM",
            "SELEC 1",
            "SELECT nothing FROM campaigns",
            "",
            "-- nothing",
        ],
    )
    def test_refused(self, database, sample, statement):
        with database.begin() as session:
            sample.campaign(session)
        with pytest.raises(UserError, match="SELECT") as caught:
            list(read_only_query(database.url, statement)[1])
        assert "\n" not in str(caught.value)
        with database.session() as session:
            assert [row.name for row in store.list_campaigns(session)] == ["demo"]

    def test_reads_with_limit_and_percent_signs(self, database, sample):
        with database.begin() as session:
            for name in ("a", "b", "c"):
                sample.campaign(session, name)
        columns, rows = read_only_query(
            database.url,
            "WITH t AS (SELECT name FROM campaigns WHERE name LIKE '%') SELECT * FROM t;",
            limit=2,
        )
        assert columns == ["name"]
        assert len(list(rows)) == 2

    def test_reads_while_a_campaign_writes(self, database, sample):
        with database.begin() as session:
            sample.campaign(session, "before")
        with database.begin() as session:
            sample.campaign(session, "during")
            seen = list(read_only_query(database.url, "SELECT name FROM campaigns")[1])
        assert seen == [("before",)]

    def test_many_rows_stream_from_one_snapshot(self, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
            session.add_all([Event(campaign_id=campaign, kind="tick", data_json={}) for _ in range(1200)])
        _, rows = read_only_query(database.url, "SELECT id FROM events ORDER BY id")
        first = next(rows)
        with database.begin() as session:
            session.execute(text("DELETE FROM events"))
        assert 1 + len(list(rows)) == 1200
        assert first == (1,)


class DocumentationContract:
    """The queries of the documentation run, and it names every column of every view."""

    text = (Path(__file__).resolve().parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")

    def test_examples_run(self, database):
        examples = re.findall(r"```sql\n(.*?)```", self.text, flags=re.DOTALL)
        assert len(examples) >= 5
        for example in examples:
            list(read_only_query(database.url, example)[1])

    def test_every_column_is_described(self, database):
        for view in VIEWS:
            columns, _ = read_only_query(database.url, f"SELECT * FROM {view}")
            assert [name for name in columns if f"`{name}`" not in self.text] == []
