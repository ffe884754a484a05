"""Row-level security of a table, for migrations: who may do what with which tenants' rows.

A new table with a tenant, directly or through a key, calls `protect` in the migration that makes it; a test walks all
tables and fails for one without.
"""

from __future__ import annotations

from alembic import op

from shared.roles import APP, EVERY_TENANT, WORKER

#: The transaction's tenants as an array, worked out once a statement: in line it would be parsed for each row.
#: Where none were set: null, which nothing equals, so that the API sees nothing …
_TENANTS = "((SELECT nullif(current_setting('app.tenants', true), '')::text[])::text[])"
#: … and an error for workers: a fan-out that saw nobody would end its event as told.
_TENANTS_OR_ERROR = "((SELECT current_setting('app.tenants')::text[])::text[])"
#: Whether the transaction said that it works on every tenant. Only the workers' policies ask.
EVERYWHERE = f"(SELECT '{EVERY_TENANT}' = ANY (current_setting('app.tenants')::text[]))"
READ_WRITE = "SELECT, INSERT, UPDATE, DELETE"


def of_tenants(column: str = "tenant") -> str:
    """Return the condition that a row belongs to one of the transaction's tenants."""
    return f"{column} = ANY {_TENANTS}"


def of_tenants_or_everywhere(column: str = "tenant") -> str:
    """Return the workers' condition: one of the transaction's tenants, or a transaction over every tenant.

    It raises in a transaction that named none.
    """
    return f"{column} = ANY {_TENANTS_OR_ERROR} OR {EVERYWHERE}"


def presented(column: str) -> str:
    """Return the condition that a credential was presented: the transaction named it."""
    return f"{column} = ANY ((SELECT nullif(current_setting('app.credentials', true), '')::text[])::text[])"


def policy(table: str, name: str, role: str, command: str, condition: str) -> None:
    """Let `role` do `command` (ALL, SELECT, …) with the rows that `condition` holds for, before and after it."""
    op.execute(f"CREATE POLICY {name} ON {table} FOR {command} TO {role} USING ({condition})")


def protect(
    table: str,
    *,
    app: str | None = None,
    worker: str | None = None,
    app_may: str = READ_WRITE,
    worker_may: str = READ_WRITE,
) -> None:
    """Enable and force row-level security on a table, and let the two roles do what they may within their policies.

    `app` and `worker` are their conditions; unset: the row's `tenant` is one of the transaction's (for workers also:
    the transaction is over every tenant). An empty `app_may` keeps the API away from the table.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    policy(table, "worker", WORKER, "ALL", worker or of_tenants_or_everywhere())
    op.execute(f"GRANT {worker_may} ON {table} TO {WORKER}")
    if app_may:
        policy(table, "app", APP, "ALL", app or of_tenants())
        op.execute(f"GRANT {app_may} ON {table} TO {APP}")
