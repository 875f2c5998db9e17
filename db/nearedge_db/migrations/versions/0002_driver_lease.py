"""Which process drives a campaign, and until when it may be believed to live."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _columns() -> list[sa.Column]:
    return [
        sa.Column("driver_owner", sa.String(255)),
        sa.Column("driver_host", sa.String(255)),
        sa.Column("driver_pid", sa.Integer),
        sa.Column("driver_heartbeat_at", sa.DateTime(timezone=True)),
        sa.Column("driver_expires_at", sa.DateTime(timezone=True)),
    ]


def upgrade() -> None:
    """Add the lease; campaigns of before have no driver."""
    for column in _columns():
        op.add_column("campaigns", column)


def downgrade() -> None:
    """Drop the lease."""
    for column in reversed(_columns()):
        op.drop_column("campaigns", column.name)
