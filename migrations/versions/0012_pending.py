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
    # Built beside acceptance and fan-out: within a transaction it would stop both for as long as it takes, minutes.
    # It waits for transactions that began before it, a dump's too, and holds up nobody meanwhile.
    with op.get_context().autocommit_block():
        # A build that broke off leaves an index that is kept up and never read.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS events_pending")
        # Its condition is the claim's own, so that nothing is left to be filtered and no other index is as cheap.
        op.execute("""
            CREATE INDEX CONCURRENTLY events_pending ON events (key)
            WHERE state = 'accepted' AND attempts = 0 AND tried_at IS NULL""")
        # Each event dies once in the index, within a second, and a claim walks from the oldest: over those dead too
        # until a vacuum. By default that comes after a fifth of a table that keeps a month of events; and it leaves
        # the indexes alone where few pages have dead rows, as here.
        op.execute("""
            ALTER TABLE events SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000,
                                    vacuum_index_cleanup = on)""")


def downgrade() -> None:
    op.execute("""
        ALTER TABLE events RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, vacuum_index_cleanup)""")
    op.execute("DROP INDEX events_pending")
