"""A try says how many calculations followed each other in it: what its time is divided by to compare it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of earlier tries the number is not known, and counts as one."""
    op.add_column("attempts", sa.Column("runs", sa.Integer))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("attempts", "runs")
