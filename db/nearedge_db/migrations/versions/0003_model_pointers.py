"""Labels and structures of a campaign point to the candidate, and it to the models, that they come from."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_POINTERS = (
    ("campaign_structures", "candidate_id", "candidates"),
    ("label_uses", "candidate_id", "candidates"),
    ("candidates", "relax_surrogate_model_id", "models"),
    ("candidates", "relax_potential_model_id", "models"),
)

# The structure of a seed may have come up again as a candidate: its label was not asked for by that one.
_FILL = (
    """UPDATE campaign_structures SET candidate_id = (
        SELECT MIN(candidates.id) FROM candidates
        WHERE candidates.campaign_id = campaign_structures.campaign_id
        AND candidates.structure_id = campaign_structures.structure_id)
    WHERE origin IN ('baseline', 'guided')""",
    """UPDATE label_uses SET candidate_id = (
        SELECT MAX(candidates.id) FROM candidates
        JOIN labels ON labels.structure_id = candidates.structure_id
        WHERE candidates.campaign_id = label_uses.campaign_id AND labels.id = label_uses.label_id)
    WHERE role IN ('baseline', 'guided')""",
    """UPDATE candidates SET relax_potential_model_id = (
        SELECT predictions.potential_model_id FROM predictions WHERE predictions.id = (
            SELECT MIN(first.id) FROM predictions AS first WHERE first.candidate_id = candidates.id))""",
    """UPDATE candidates SET relax_surrogate_model_id = (
        SELECT predictions.surrogate_model_id FROM predictions WHERE predictions.id = (
            SELECT MIN(first.id) FROM predictions AS first WHERE first.candidate_id = candidates.id))
    WHERE generation_id IN (SELECT id FROM generations WHERE role = 'guided')""",
    # these name what was champion then, not what had a part in the batch
    "UPDATE generations SET surrogate_model_id = NULL WHERE role = 'baseline'",
)


def upgrade() -> None:
    """Add the pointers, and fill them from what is known: the first scoring was by the models that relaxed."""
    inline = op.get_bind().dialect.name == "sqlite"  # it cannot add a constraint to a table that exists
    for table, column, target in _POINTERS:
        key = sa.ForeignKey(f"{target}.id", name=f"fk_{table}_{column}")
        op.add_column(table, sa.Column(column, sa.Integer, key), inline_references=inline)
    for statement in _FILL:
        op.execute(statement)


def downgrade() -> None:
    """Drop the pointers."""
    for table, column, _ in reversed(_POINTERS):
        op.drop_column(table, column)
