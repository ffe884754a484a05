"""Failed logins for tests: events at times of their own, and a clock that the job reads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import orjson
import psycopg

from shared import db as database
from shared import failed_logins
from tests import directory
from tests.directory import Row
from workers.failed_logins import run
from workers.fan_out import fan_out_pending

NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)
TENANT = "acme"
_numbers = count()


def moment(minute: float) -> datetime:
    """Return nine o'clock and so many minutes."""
    return NINE + timedelta(minutes=minute)


def admins(db: psycopg.Connection[Row]) -> dict[str, int]:
    """Make a super admin, an admin of the tenant, one of another and a student; their inbox keys by name."""
    return {
        **directory.add_recipients(db, "platform", ["root"], roles=["super_admin"]),
        **directory.add_recipients(db, TENANT, ["dean"], roles=["university_admin"]),
        **directory.add_recipients(db, "other", ["rival"], roles=["university_admin"]),
        **directory.add_recipients(db, TENANT, ["ada"], roles=["student"]),
    }


def fail(
    db: psycopg.Connection[Row],
    *minutes: float,
    account: str = "ada",
    tenant: str = TENANT,
    accepted: float | None = None,
    ip: str | None = "203.0.113.9",
) -> list[int]:
    """Store a failed login for each of these minutes after nine, accepted then or at another minute; their keys."""
    directory.add_tenant(db, tenant)
    data = {"account_id": account, **({} if ip is None else {"ip": ip})}
    keys = []
    for minute in minutes:
        row = db.execute(
            "INSERT INTO events (tenant, source, id, type, data, content_hash, occurred_at, accepted_at)"
            " VALUES (%s, '/auth', %s, 'auth.login_failed', %s::jsonb, 'x', %s, %s) RETURNING key",
            (tenant, f"f{next(_numbers)}", orjson.dumps(data).decode(), moment(minute),
             moment(minute if accepted is None else accepted)),
        ).fetchone()  # fmt: skip
        assert row is not None
        keys.append(int(row["key"]))
    return keys


def settle(minute: float) -> None:
    """Have everything done that is to be done at that minute: fan-out, counting, telling, fan-out of what that made."""
    fan_out_pending()
    assert run(moment(minute))
    fan_out_pending()


def windows(db: psycopg.Connection[Row]) -> list[tuple[str, str, float, int]]:
    """Return what stands: tenant, account, minute of the start, failures."""
    rows = db.execute("SELECT * FROM failed_login_windows ORDER BY tenant, account, started_at").fetchall()
    return [
        (row["tenant"], row["account"], (row["started_at"] - NINE) / timedelta(minutes=1), row["failures"])
        for row in rows
    ]


def told(db: psycopg.Connection[Row], key: int) -> list[dict[str, Any]]:
    """Return the metadata of an inbox's notifications, oldest first."""
    return [row["metadata"] for row in directory.notifications(db, key)]


def stage_in_bulk(db: psycopg.Connection[Row], accounts: Iterable[str], times: int, step_s: float) -> None:
    """Store so many failures of each account as their fan-out would leave them: done, and staged to be counted.

    The accounts' failures alternate; each account's are `step_s` apart.
    """
    directory.add_tenant(db, TENANT)
    db.execute(
        """
        INSERT INTO events (tenant, source, id, type, data, content_hash, occurred_at, accepted_at, state, finished_at)
        SELECT %(tenant)s, '/auth', a.account || n, 'auth.login_failed',
               jsonb_build_object('account_id', a.account, 'ip', '198.51.100.' || n %% 250), 'x', t.at, t.at,
               'done', t.at
        FROM generate_series(1, %(times)s) n CROSS JOIN unnest(%(accounts)s::text[]) AS a(account)
        CROSS JOIN LATERAL (SELECT %(nine)s::timestamptz + make_interval(secs => (n - 1) * %(step)s) AS at) t ORDER BY n
        """,
        {"tenant": TENANT, "times": times, "accounts": list(accounts), "nine": NINE, "step": step_s},
    )
    keys = [row["key"] for row in db.execute("SELECT key FROM events WHERE source = '/auth'").fetchall()]
    with database.transaction("*") as connection:
        connection.execute(failed_logins.stage(), {"keys": keys})
