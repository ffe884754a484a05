"""Tenants in databases of their own: who is at home in the shared one, and what events must reach in another one.

The tables' reasons are in docs/architecture.md, "Tenants with databases of their own".
"""

from __future__ import annotations

from alembic import op

from migrations.tenancy import protect

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: In a tenant's own database: whoever of the tenant was registered with a shared role, for good.
_ELSEWHERE = """
CREATE TABLE recipients_elsewhere (
    tenant text NOT NULL REFERENCES tenants (id),
    id text NOT NULL,
    PRIMARY KEY (tenant, id)
)"""
#: What of an event another database has yet to be told: of the event itself, or that it is cancelled.
_FORWARDS = """
CREATE TABLE forwards (
    event_key bigint NOT NULL REFERENCES events (key) ON DELETE CASCADE,
    database text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done')),
    cancelled boolean NOT NULL DEFAULT false,
    tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_key, database)
) WITH (fillfactor = 70)"""
_PENDING = "CREATE INDEX forwards_pending ON forwards (database, event_key) WHERE state = 'pending'"


def upgrade() -> None:
    op.execute(_ELSEWHERE)
    op.execute(_FORWARDS)
    op.execute(_PENDING)
    # A forwarded event reaches those who are at home here, and is forwarded no further.
    op.execute("ALTER TABLE events ADD COLUMN derived boolean NOT NULL DEFAULT false")
    protect("recipients_elsewhere", app_may="SELECT, INSERT")
    its_event = "EXISTS (SELECT FROM events e WHERE e.key = event_key)"
    protect("forwards", app=its_event, worker="true", app_may="SELECT, UPDATE")


def downgrade() -> None:
    op.execute("ALTER TABLE events DROP COLUMN derived")
    op.execute("DROP TABLE forwards, recipients_elsewhere")
