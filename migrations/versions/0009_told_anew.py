"""An event that is told anew is told to those as well who are at home in another database.

The tables' reasons are in docs/architecture.md, "Tenants with databases of their own".
"""

from __future__ import annotations

from alembic import op

from migrations.tenancy import protect

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

#: At home: what of an event the other database has yet to be told anew; `revision` grows with what there is to tell.
_LEFT = "ALTER TABLE forwards ADD COLUMN revision bigint, ADD COLUMN data jsonb"
#: There: what a forwarded event says now, and which revision of it the notifications tell. telling: which one they
#: will, once a round through a large audience has come past its last inbox; told_up_to is how far that round is.
_UPDATES = """
CREATE TABLE event_updates (
    event_key bigint PRIMARY KEY REFERENCES events (key) ON DELETE CASCADE,
    revision bigint NOT NULL,
    data jsonb NOT NULL,
    told bigint NOT NULL DEFAULT 0,
    telling bigint,
    told_up_to bigint NOT NULL DEFAULT 0
)"""
_UNTOLD = "CREATE INDEX event_updates_untold ON event_updates (event_key) WHERE told < revision"


def upgrade() -> None:
    op.execute(_LEFT)
    op.execute(_UPDATES)
    op.execute(_UNTOLD)
    protect("event_updates", worker="true", app_may="")


def downgrade() -> None:
    op.execute("DROP TABLE event_updates")
    op.execute("ALTER TABLE forwards DROP COLUMN revision, DROP COLUMN data")
