"""Row-level security, forced on every table with a tenant, for the two roles that the product runs as.

Which role sees what, and why, is in docs/decisions/0003-row-level-security.md.
"""

from __future__ import annotations

from alembic import op

from migrations.tenancy import EVERYWHERE, READ_WRITE, of_tenants, of_tenants_or_everywhere, policy, presented, protect
from shared.roles import APP, WORKER

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

#: The queue of record is claimed before anybody knows whose events those are.
_OPEN = "true"
#: What belongs to the installation, not to a tenant.
_OF_EVERYBODY = {
    "alembic_version": ("SELECT", "SELECT"),
    "deployment": ("SELECT", "SELECT, UPDATE"),
    "heartbeats": ("SELECT", READ_WRITE),
    "job_turns": ("SELECT", READ_WRITE),
}
#: Counts what recipients did with an event's notifications, which may be other tenants' (a super admin's, say): whoever
#: may see the event may know the numbers, not the rows.
_SEEN_AND_READ = """
CREATE FUNCTION carillon_seen_and_read(event_key bigint, first uuid, last uuid, OUT seen bigint, OUT read bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET app.tenants = '{*}' AS $$
    SELECT count(n.seen_at), count(n.read_at) FROM public.notifications n
    WHERE n.id >= $2 AND n.id < $3 AND n.event_key = $1
$$"""


def upgrade() -> None:
    op.execute(f"GRANT USAGE ON SCHEMA public TO {APP}, {WORKER}")
    for table, (app, worker) in _OF_EVERYBODY.items():
        op.execute(f"GRANT {app} ON {table} TO {APP}")
        op.execute(f"GRANT {worker} ON {table} TO {WORKER}")
    _directory()
    _queue()
    _credentials()
    _functions()


def _directory() -> None:
    protect("tenants", app=of_tenants("id"), worker=of_tenants_or_everywhere("id"), app_may="SELECT, INSERT")
    # `carillon_publish` and the accept task must know whether a tenant exists.
    policy("tenants", "worker_knows", WORKER, "SELECT", _OPEN)
    protect("inboxes", app_may="SELECT, INSERT, UPDATE")
    protect("recipients")
    protect("recipient_roles", app_may="SELECT, INSERT, DELETE")
    protect("topic_members", app_may="SELECT, INSERT, DELETE")
    protect("notifications", app_may="SELECT, UPDATE, DELETE")
    # Under a policy an index serves a condition only if no function in it could tell of other tenants' rows, and
    # lower() might. A stored column may be compared.
    op.execute("DROP INDEX recipients_by_login")
    op.execute("ALTER TABLE recipients ADD COLUMN login text NOT NULL GENERATED ALWAYS AS (lower(id)) STORED")
    op.execute("CREATE INDEX recipients_by_login ON recipients (tenant, login)")


def _queue() -> None:
    protect("events", worker=_OPEN, app_may="SELECT, INSERT, UPDATE")
    protect("failed_logins", app_may="")
    protect("failed_login_windows", app_may="")
    its_event = "EXISTS (SELECT FROM events e WHERE e.key = event_key)"
    protect("fan_out_chunks", app=its_event, worker=_OPEN, app_may="SELECT")


def _credentials() -> None:
    # The API finds the key or the session that was presented to it, and no other.
    protect("producer_keys", app=presented("prefix"), worker=EVERYWHERE, app_may="SELECT, UPDATE (last_used_at)")
    own_or_presented = f"{of_tenants()} OR {presented('name')}"
    protect("sessions", app=own_or_presented, app_may="SELECT, INSERT, DELETE")
    # Every process of the API knows all that was revoked.
    protect("revocations", app_may="SELECT, INSERT, UPDATE")
    policy("revocations", "app_knows", APP, "SELECT", _OPEN)
    protect("signing_secrets", app_may="SELECT")
    # A message names its secret, and the secret its tenant.
    policy("signing_secrets", "worker_knows", WORKER, "SELECT", _OPEN)


def _functions() -> None:
    """Let the functions that producers and the API call run as the workers' role, by its policies, not as the owner."""
    op.execute(_SEEN_AND_READ)
    op.execute(f"GRANT CREATE ON SCHEMA public TO {WORKER}")
    for name in ("carillon_publish(jsonb)", "carillon_seen_and_read(bigint, uuid, uuid)"):
        op.execute(f"ALTER FUNCTION {name} OWNER TO {WORKER}")
        op.execute(f"REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC")
    op.execute(f"REVOKE CREATE ON SCHEMA public FROM {WORKER}")
    op.execute(f"GRANT EXECUTE ON FUNCTION carillon_seen_and_read(bigint, uuid, uuid) TO {APP}")


def downgrade() -> None:
    raise RuntimeError("row-level security is not taken back: restore a backup instead")
