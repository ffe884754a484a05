"""Failed events are counted and listed every few seconds, for /metrics and the operators' page."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Few rows: it costs nothing where an event does not fail. `state` is in other partial indexes already, so what
    # updates stay on their page does not change.
    op.execute("CREATE INDEX events_failed ON events (key) WHERE state = 'failed'")


def downgrade() -> None:
    op.execute("DROP INDEX events_failed")
