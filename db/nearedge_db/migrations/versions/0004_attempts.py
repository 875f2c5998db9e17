"""Every try at a task is a row of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; of earlier tries only the number is known."""
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "task_id", sa.Integer, sa.ForeignKey("tasks.id", name="fk_attempts_task_id"), nullable=False
        ),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("changes_json", sa.JSON, nullable=False),
        sa.Column("peak_gib", sa.Double),
    )
    op.create_index("ix_attempts_task_id", "attempts", ["task_id"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("attempts")
