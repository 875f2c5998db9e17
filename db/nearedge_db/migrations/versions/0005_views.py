"""The views again: ``confirmed_structures`` is new, and ``discovered_structures`` leaves out what a second oracle did.

No table changes. An upgrade drops all views before and creates them after the revisions, which this one makes it do in
databases of revision 0004 that were made before the views changed.
"""

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: the views are made anew whenever a revision was applied."""


def downgrade() -> None:
    """Nothing: a downgrade drops the views."""
