"""The pending events by themselves, in the order in which they are claimed.

The index of all open events serves the claim too, but holds more than it asks for: a plan then sorts what it finds, and
reads the whole backlog for each batch of it.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Its condition is the claim's own, so that nothing is left to be filtered and no other index is as cheap.
    op.execute("""
        CREATE INDEX events_pending ON events (key)
        WHERE state = 'accepted' AND attempts = 0 AND tried_at IS NULL""")


def downgrade() -> None:
    op.execute("DROP INDEX events_pending")
