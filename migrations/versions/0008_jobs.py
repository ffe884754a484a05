"""What the periodic jobs need: a row for each job, and marks of what they keep within bounds.

The tables' reasons are in docs/architecture.md, "Periodic jobs".
"""

from __future__ import annotations

from alembic import op

from migrations.tenancy import READ_WRITE
from shared.roles import APP, WORKER

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

#: holder and leased_until: who works on it now. position: where it goes on. last_…, longest_transaction (in seconds),
#: complete and error are the last run's; runs, done, faults and failures are of all runs together.
_JOB_RUNS = """
CREATE TABLE job_runs (
    job text PRIMARY KEY,
    holder text,
    leased_until timestamptz,
    position bigint NOT NULL DEFAULT 0,
    runs bigint NOT NULL DEFAULT 0,
    done bigint NOT NULL DEFAULT 0,
    faults bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    last_started_at timestamptz,
    last_finished_at timestamptz,
    last_seconds double precision,
    last_done bigint,
    longest_transaction double precision,
    complete boolean,
    error text
) WITH (fillfactor = 50)"""


def upgrade() -> None:
    op.execute(_JOB_RUNS)
    op.execute(f"GRANT SELECT ON job_runs TO {APP}")
    op.execute(f"GRANT {READ_WRITE} ON job_runs TO {WORKER}")
    # How many were created when the caps of types were last kept.
    op.execute("ALTER TABLE inboxes ADD COLUMN type_capped bigint NOT NULL DEFAULT 0")
    # Of a tombstone: user, expired, capped or withdrawn; null for those from before.
    op.execute("ALTER TABLE notifications ADD COLUMN deleted_for text")


def downgrade() -> None:
    op.execute("ALTER TABLE notifications DROP COLUMN deleted_for")
    op.execute("ALTER TABLE inboxes DROP COLUMN type_capped")
    op.execute("DROP TABLE job_runs")
