"""The audit log: what is in it, that nothing takes it away, and the rotation of keys that it tells of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import httpx
import psycopg
import pytest
import structlog

from shared import audit, db, keys, statements
from shared.cli import app
from shared.cli.console import run
from shared.errors import Unauthenticated
from tests.directory import Row
from tests.eventually import eventually_async
from tests.producers import TENANT, bearer, envelope, make_key, post
from workers import retention

Cli = Callable[..., str]


@pytest.fixture
def cli(configured: dict[str, str]) -> Cli:
    """Run a command in this process that must succeed, and return what it printed."""

    def command(*arguments: str, code: int = 0) -> str:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            assert run(app, list(arguments)) == code
        structlog.reset_defaults()
        return out.getvalue() if code == 0 else err.getvalue()

    return command


def entries(session: psycopg.Connection[Row]) -> list[tuple[str, str, str | None, str | None]]:
    """Return (actor's kind, action, tenant, subject) of every entry, oldest first."""
    rows = session.execute("SELECT actor, action, tenant, subject FROM audit_log ORDER BY key").fetchall()
    return [(row["actor"].split(":")[0], row["action"], row["tenant"], row["subject"]) for row in rows]


def is_live(key: str) -> bool:
    with db.transaction(db.EVERY_TENANT) as connection:
        try:
            statements.run(connection, keys.verify(key))
        except Unauthenticated:
            return False
        return True


def test_a_rotated_key_goes_on_for_a_while_beside_the_new_one(cli: Cli, db: psycopg.Connection[Row]) -> None:
    old = cli("key", "create", "--tenant", TENANT, "--scope", "events:write").splitlines()[-1]
    prefix = keys.prefix_of(old)
    told = cli("key", "rotate", prefix, "--overlap", "2h")
    new = told.splitlines()[-1]
    assert is_live(old)
    assert is_live(new)
    row = db.execute(
        "SELECT o.tenants = n.tenants AND o.scopes = n.scopes AND o.family = n.family AS same, n.expires_at,"
        " o.expires_at - clock_timestamp() BETWEEN '119 min' AND '2 h' AS ends"
        " FROM producer_keys o, producer_keys n WHERE o.prefix = %s AND n.prefix = %s",
        (prefix, keys.prefix_of(new)),
    ).fetchone()
    assert row == {"same": True, "expires_at": None, "ends": True}
    assert f"is being rotated: {prefix} is live as well" in cli("key", "rotate", keys.prefix_of(new), code=1)
    db.execute("UPDATE producer_keys SET expires_at = clock_timestamp() WHERE prefix = %s", (prefix,))
    assert not is_live(old)
    listed = {line.split()[0]: line.split()[-1] for line in cli("key", "list").splitlines()}
    assert (listed[prefix], listed[keys.prefix_of(new)]) == ("expired", "live")
    assert "There is no live key" in cli("key", "rotate", prefix, code=1)
    assert is_live(cli("key", "rotate", keys.prefix_of(new)).splitlines()[-1])
    assert [entry[:2] for entry in entries(db)] == [
        ("operator", "tenant.created"),
        ("operator", "key.created"),
        ("operator", "key.rotated"),
        ("operator", "key.rotated"),
    ]


def test_a_key_may_end_by_itself(cli: Cli, db: psycopg.Connection[Row]) -> None:
    key = cli("key", "create", "--tenant", TENANT, "--expires", "90d").splitlines()[-1]
    row = db.execute("SELECT expires_at - created_at BETWEEN '89 days' AND '90 days 1 min' AS fits FROM producer_keys")
    assert row.fetchone() == {"fits": True}
    assert is_live(key)
    for wrong in ("0", "-1d", "soon", "11y", "99999999999d"):
        assert "--expires must be a length of time" in cli("key", "create", "--tenant", "a", "--expires", wrong, code=1)


async def test_what_bears_on_access_is_written_with_it(
    cli: Cli, api: httpx.AsyncClient, db: psycopg.Connection[Row]
) -> None:
    key = make_key(None, ("events:write", "directory:write"))
    await api.put(f"/api/tenants/{TENANT}", headers=bearer(key))
    await api.put(f"/api/tenants/{TENANT}", headers=bearer(key))
    rows = b'{"tenant":"acme","id":"ann"}\n{"tenant":"acme","id":"ben"}\n'
    kind = {"content-type": "application/x-ndjson"}
    assert (await api.post("/api/recipients/bulk", content=rows, headers=bearer(key) | kind)).json()["created"] == 2
    assert (await post(api, key, envelope())).status_code == 202
    cancel = f"/api/events/e1?source=/tests&tenant={TENANT}"
    assert [(await api.delete(cancel, headers=bearer(key))).status_code for _ in range(2)] == [202, 200]
    assert (await api.delete(f"/api/recipients/{TENANT}/ben", headers=bearer(key))).status_code == 204
    body = {"tenant": TENANT, "recipient": "ann"}
    assert (await api.post("/api/revocations", json=body, headers=bearer(key))).status_code == 201
    secret = cli("secret", "create", "--for", "github", "--tenant", TENANT).splitlines()[-2].removeprefix("id ")
    cli("revoke", "--tenant", TENANT, "--everyone")
    cli("key", "revoke", keys.prefix_of(key))
    assert entries(db) == [
        ("operator", "key.created", None, keys.prefix_of(key)),
        ("key", "tenant.created", TENANT, None),
        ("key", "directory.imported", None, "/api/recipients/bulk"),
        ("key", "event.cancelled", TENANT, "e1"),
        ("key", "recipient.deleted", TENANT, "ben"),
        ("key", "access.revoked", TENANT, "ann"),
        ("operator", "secret.created", TENANT, secret),
        ("operator", "access.revoked", TENANT, None),
        ("operator", "key.revoked", None, keys.prefix_of(key)),
    ]
    shown = cli("audit", "--since", "1h")
    assert shown.splitlines()[1].split()[3] == "key.revoked"
    assert len(shown.splitlines()) == 10
    assert len(cli("audit", "--action", "access.revoked").splitlines()) == 3
    assert "created=2 updated=0 rejected=0" in cli("audit", "--action", "directory.imported")


async def test_refusals_are_counted_into_few_rows_and_tell_no_secret(
    api: httpx.AsyncClient, db: psycopg.Connection[Row]
) -> None:
    key = make_key(scopes=("ops:read",))
    for number in range(5):
        await api.get("/api/notifications", headers=bearer(f"guess-{number}"))
    await api.get("/api/topics/acme/guessed-secret/members", headers=bearer(key))

    async def written() -> list[Row]:
        return db.execute("SELECT actor, subject, address, details FROM audit_log WHERE action = 'access.denied'"
                          " ORDER BY subject").fetchall()  # fmt: skip

    rows = await eventually_async(written)
    assert [(row["subject"], row["actor"], row["details"]["times"]) for row in rows] == [
        ("401 GET /api/notifications", "anybody", 5),
        ("403 GET /topics/{tenant}/{topic:path}/members", f"key:{keys.prefix_of(key)}", 1),
    ]
    assert "guess" not in str(rows)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM audit_log", "UPDATE audit_log SET actor = 'nobody'", "TRUNCATE audit_log"]
)
def test_nobody_changes_or_removes_what_was_written(cli: Cli, db: psycopg.Connection[Row], statement: str) -> None:
    cli("key", "create", "--tenant", TENANT)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only added to"):
        db.execute(statement.encode())
    assert len(entries(db)) == 2


def test_retention_takes_what_is_old_and_nothing_younger_than_thirty_days(
    configured: dict[str, str], db: psycopg.Connection[Row]
) -> None:
    for days in (400, 366, 364, 31, 0):
        db.execute(
            "INSERT INTO audit_log (at, actor, action, details)"
            " VALUES (now() - make_interval(days => %s), 'a', %s, '{}')",
            (days, str(days)),
        )
    db.execute("INSERT INTO sessions (name, tenant, recipient, roles, expires_at) VALUES ('over', 't', 'r', '{}',"
               " now() - interval '1 s'), ('live', 't', 'r', '{}', now() + interval '1 h')")  # fmt: skip
    db.execute("INSERT INTO revocations VALUES ('t', 'old', now() - interval '26 h'), ('t', 'new', now())")
    assert retention.tidy()
    assert [entry[1] for entry in entries(db)] == ["364", "31", "0"]
    assert db.execute("SELECT name FROM sessions").fetchall() == [{"name": "live"}]
    assert db.execute("SELECT recipient FROM revocations").fetchall() == [{"recipient": "new"}]
    assert db.execute("SELECT carillon_forget_audit(0) AS many").fetchone() == {"many": 2}


def test_names_that_strangers_choose_neither_break_a_row_nor_move_a_cursor(
    cli: Cli, db: psycopg.Connection[Row]
) -> None:
    from shared import db as database

    entry = audit.Entry("key:\x1b[2J\r\n[red]x", "access.denied", "a\x00b", "\ud800" + "x" * 1000)
    with database.transaction(database.EVERY_TENANT) as connection:
        statements.run(connection, audit.record(entry))
    shown = cli("audit")
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown
    assert "\\x1b[2J\\x0d\\x0a[red]x" in shown
