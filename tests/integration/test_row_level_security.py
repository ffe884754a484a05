"""Row-level security: which rows the API's and the workers' roles see, in every table there is."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from shared import db as database
from shared import fan_out, keys
from shared.embedded import EmbeddedPostgres
from shared.roles import APP, EVERY_TENANT, WORKER, Scope, begin
from tests import directory
from tests.directory import Row
from tests.programs import module
from tests.servers import ApiServer

Session = psycopg.Connection[Row]

#: Tables of the installation: no row of them is a tenant's.
OF_EVERYBODY = {"alembic_version", "deployment", "heartbeats", "job_turns", "job_runs"}
#: How a table's row tells its tenant, where it has no column of that name.
TENANT_OF = {
    "tenants": "x.id",
    "fan_out_chunks": "(SELECT e.tenant FROM events e WHERE e.key = x.event_key)",
    "forwards": "(SELECT e.tenant FROM events e WHERE e.key = x.event_key)",
    "event_updates": "(SELECT e.tenant FROM events e WHERE e.key = x.event_key)",
    "producer_keys": "x.tenants[1]",
}
#: What the API never sees by its tenant: the producer key is the one that was presented; failed logins are counted;
#: the audit log is added to.
NOT_BY_TENANT = {"producer_keys", "failed_logins", "failed_login_windows", "event_updates", "audit_log"}
#: What was revoked is for every process of the API to know.
KNOWN_TO_THE_API = {"revocations"}
#: What a worker sees of every tenant without naming any.
OPEN_TO_WORKERS = {"events", "fan_out_chunks", "forwards", "event_updates", "tenants", "signing_secrets"}
TENANTS = ("acme", "bolt")


def tables(db: Session) -> set[str]:
    """Return every table."""
    found = db.execute(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    return {row["relname"] for row in found}


@contextmanager
def acting(db: Session, role: str, *tenants: str, credentials: tuple[str, ...] = ()) -> Iterator[None]:
    """Act as a role of the product for the block, in a transaction that is rolled back."""
    db.execute(begin(role, Scope(tenants, credentials)).encode(), prepare=False)
    try:
        yield
    finally:
        db.execute("ROLLBACK")


@pytest.fixture
def filled(db: Session) -> Session:
    """Two tenants with a row in every table."""
    for tenant in TENANTS:
        people = directory.add_recipients(db, tenant, ["ann"], roles=["student"], topics=["course"])
        event = directory.add_event(db, "system.test", {}, tenant=tenant)
        db.execute(
            "INSERT INTO fan_out_chunks (event_key, number, after_key, up_to_key) VALUES (%s, 0, 0, 9)", (event,)
        )
        db.execute("INSERT INTO forwards (event_key, database) VALUES (%s, 'shared')", (event,))
        db.execute("INSERT INTO event_updates (event_key, revision, data) VALUES (%s, 4, '{}')", (event,))
        db.execute("INSERT INTO recipients_elsewhere (tenant, id) VALUES (%s, 'eve')", (tenant,))
        db.execute(
            "INSERT INTO notifications (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority, title,"
            " message, metadata, created_at)"
            " VALUES (gen_random_uuid(), %s, %s, %s, 1, 1, 1, 'X', 1, '', '', '{}', now())",
            (people["ann"], tenant, event),
        )
        _, key = keys.make_key([tenant], ["events:write"])
        db.execute(
            "INSERT INTO producer_keys (prefix, secret_hash, tenants, scopes)"
            " VALUES (%(prefix)s, %(secret_hash)s, %(tenants)s, %(scopes)s)", key,
        )  # fmt: skip
        secret = "INSERT INTO signing_secrets (id, purpose, tenant, ciphertext) VALUES (%s, 'github', %s, '')"
        db.execute(secret, (tenant, tenant))
        session = (
            "INSERT INTO sessions (name, tenant, recipient, roles, expires_at) VALUES (%s, %s, 'ann', '{}', 'infinity')"
        )
        db.execute(session, (f"{tenant}-session", tenant))
        db.execute("INSERT INTO revocations (tenant, recipient) VALUES (%s, 'eve')", (tenant,))
        told = "INSERT INTO audit_log (actor, action, tenant, details) VALUES ('key:x', 'key.made', %s, '{}')"
        db.execute(told, (tenant,))
        failed = "INSERT INTO failed_logins (event_key, tenant, account, at) VALUES (%s, %s, 'ann', now())"
        db.execute(failed, (event, tenant))
        db.execute(
            "INSERT INTO failed_login_windows (event_key, tenant, account, started_at, failures, first_at, last_at,"
            " addresses, made_at, told, told_at) VALUES (%s, %s, 'ann', now(), 3, now(), now(), '[]', now(), 3, now())",
            (event, tenant),
        )
    return db


def rows_of(db: Session, table: str) -> list[str]:
    """Return the tenants of all rows that are to be seen now, one a row; none where the table may not be read."""
    tenant = TENANT_OF.get(table, "x.tenant")
    try:
        with db.transaction():
            return sorted(row["tenant"] for row in db.execute(f"SELECT {tenant} AS tenant FROM {table} x".encode()))
    except psycopg.errors.InsufficientPrivilege:
        return []


def seen(db: Session) -> dict[str, list[str]]:
    """Return the same for every table with a tenant; `platform` is everywhere and left out."""
    return {name: [each for each in rows_of(db, name) if each != "platform"] for name in tables(db) - OF_EVERYBODY}


def everywhere(db: Session, *tenants: str) -> dict[str, list[str]]:
    """Return what `seen` gives where every table shows a row of each of these tenants."""
    return {name: list(tenants) for name in tables(db) - OF_EVERYBODY}


def test_every_table_has_forced_row_level_security_and_a_policy_for_the_workers(db: Session) -> None:
    found = db.execute("""
        SELECT relname FROM pg_class c WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
        AND NOT (relrowsecurity AND relforcerowsecurity AND EXISTS (
            SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND 'carillon_worker'::regrole = ANY(p.polroles)))""")
    bare = {row["relname"] for row in found}
    assert bare == OF_EVERYBODY, "a new table with a tenant calls migrations.tenancy.protect"


def test_every_table_is_filled_for_the_tests_below(filled: Session) -> None:
    assert seen(filled) == everywhere(filled, *TENANTS)


def known_to_the_api(db: Session, *tenants: str) -> dict[str, list[str]]:
    """Return what the API sees as these tenants."""
    hidden = dict.fromkeys(NOT_BY_TENANT, ())
    return {
        name: list(told)
        for name, told in {
            **dict.fromkeys(tables(db) - OF_EVERYBODY, tenants),
            **hidden,
            **dict.fromkeys(KNOWN_TO_THE_API, TENANTS),
        }.items()
    }


def test_the_api_sees_nothing_without_a_tenant(filled: Session) -> None:
    with acting(filled, APP):
        assert seen(filled) == known_to_the_api(filled)


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_api_sees_its_tenant_and_nothing_of_another(filled: Session, tenant: str) -> None:
    with acting(filled, APP, tenant):
        assert seen(filled) == known_to_the_api(filled, tenant)


def test_every_tenant_is_no_tenant_for_the_api(filled: Session) -> None:
    with acting(filled, APP, EVERY_TENANT):
        assert seen(filled) == known_to_the_api(filled)


def test_the_api_sees_the_presented_key_and_session_alone(filled: Session) -> None:
    known = filled.execute("SELECT prefix FROM producer_keys WHERE tenants = '{bolt}'").fetchall()
    with acting(filled, APP, "acme", credentials=(known[0]["prefix"], "bolt-session")):
        assert rows_of(filled, "producer_keys") == ["bolt"]
        assert rows_of(filled, "sessions") == ["acme", "bolt"]
    with acting(filled, APP, "acme", credentials=("unknown",)):
        assert rows_of(filled, "producer_keys") == []
        assert rows_of(filled, "sessions") == ["acme"]


def test_a_worker_without_tenants_sees_the_queue_alone_and_fails_at_anything_else(filled: Session) -> None:
    with acting(filled, WORKER):
        for name in OPEN_TO_WORKERS:
            assert [each for each in rows_of(filled, name) if each != "platform"] == list(TENANTS)
    for name in tables(filled) - OF_EVERYBODY - OPEN_TO_WORKERS:
        with acting(filled, WORKER), pytest.raises(psycopg.errors.InvalidTextRepresentation):
            rows_of(filled, name)


def test_a_worker_sees_the_inboxes_of_the_tenants_it_named_or_of_all(filled: Session) -> None:
    with acting(filled, WORKER, "bolt"):
        found = [rows_of(filled, name) for name in ("inboxes", "notifications", "recipients")]
    assert found == [["bolt"], ["bolt"], ["bolt"]]
    with acting(filled, WORKER, EVERY_TENANT):
        assert seen(filled) == everywhere(filled, *TENANTS)


def test_a_claim_lets_the_worker_see_the_claimed_events_tenants(filled: Session) -> None:
    filled.execute("UPDATE events SET state = 'done' WHERE tenant = 'acme'")
    with database.transaction() as connection:
        assert len(connection.execute(fan_out.claim_batch(), {"limit": 10}).all()) == 1
        found = connection.exec_driver_sql("SELECT tenant, current_setting('app.tenants') FROM inboxes").all()
    assert [tuple(row) for row in found] == [("bolt", "{bolt,platform}")]


def test_nothing_is_seen_in_a_later_transaction_of_the_same_connection(filled: Session) -> None:
    with database.transaction("acme") as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM inboxes").scalar() == 1
    with database.engine_of().begin() as connection:
        told = connection.exec_driver_sql("SELECT current_user, current_setting('app.tenants')").one()
    assert tuple(told) == (WORKER, "")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO events (tenant, source, id, type, data, occurred_at) VALUES ('bolt', '/x', '1', 'x', '{}', now())",
        "INSERT INTO inboxes (tenant, recipient) VALUES ('bolt', 'eve')",
        "UPDATE inboxes SET tenant = 'bolt'",
        "INSERT INTO tenants (id) VALUES ('corp')",
    ],
)
def test_the_api_writes_no_row_of_another_tenant(filled: Session, statement: str) -> None:
    with (
        acting(filled, APP, "acme"),
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="violates row-level security policy"),
    ):
        filled.execute(statement.encode())


def test_the_api_changes_and_deletes_no_row_of_another_tenant(filled: Session) -> None:
    with acting(filled, APP, "acme"):
        assert filled.execute("UPDATE notifications SET seen_at = now()").rowcount == 1
        assert filled.execute("DELETE FROM recipients WHERE tenant = 'bolt'").rowcount == 0


@pytest.mark.parametrize("statement", ["DELETE FROM events", "TRUNCATE inboxes", "UPDATE deployment SET epoch = 9",
                                       "UPDATE producer_keys SET scopes = '{}'", "DELETE FROM signing_secrets",
                                       "SELECT FROM audit_log", "SELECT carillon_forget_audit(0)",
                                       "ALTER TABLE inboxes DISABLE ROW LEVEL SECURITY"])  # fmt: skip
def test_the_api_may_not_do_what_it_never_does(filled: Session, statement: str) -> None:
    with acting(filled, APP, *TENANTS), pytest.raises(psycopg.errors.InsufficientPrivilege):
        filled.execute(statement.encode())


@pytest.mark.parametrize("role", [APP, WORKER])
def test_both_roles_add_to_the_audit_log_and_neither_changes_it(filled: Session, role: str) -> None:
    with acting(filled, role, EVERY_TENANT):
        filled.execute("INSERT INTO audit_log (actor, action, tenant, details) VALUES ('a', 'b', 'bolt', '{}')")
    for statement in ("UPDATE audit_log SET actor = ''", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with acting(filled, role, EVERY_TENANT), pytest.raises(psycopg.errors.InsufficientPrivilege):
            filled.execute(statement.encode())


def test_a_name_of_any_form_is_one_tenant_and_no_statement(db: Session) -> None:
    for name in ("it's", 'a"b', "a\\", "a,b", "{a}", "'; DROP TABLE inboxes; --", "NULL", "a b", "ü", '\\"', "%s"):
        with acting(db, APP, name, "acme"):
            told = db.execute("SELECT current_setting('app.tenants')::text[] AS tenants").fetchone()
            assert told == {"tenants": [name, "acme"]}


def test_a_producer_with_a_grant_publishes_by_sql_and_sees_nothing(filled: Session, database_url: str) -> None:
    filled.execute("CREATE ROLE a_producer LOGIN PASSWORD 'p'")
    try:
        filled.execute("GRANT EXECUTE ON FUNCTION carillon_publish(jsonb) TO a_producer")
        event = '{"specversion":"1.0","id":"e1","source":"/p","type":"system.test","tenant":"acme","data":{}}'
        with psycopg.connect(_as(database_url, "a_producer", "p"), autocommit=True) as session:
            assert session.execute("SELECT carillon_publish(%s)", (event,)).fetchone() == ("accepted",)
            assert session.execute("SELECT carillon_publish(%s)", (event,)).fetchone() == ("duplicate",)
            for table in ("events", "tenants"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(table)))
        filled.execute("REVOKE EXECUTE ON FUNCTION carillon_publish(jsonb) FROM a_producer")
    finally:
        filled.execute("DROP OWNED BY a_producer")
        filled.execute("DROP ROLE a_producer")
    assert rows_of(filled, "events") == ["acme", "acme", "bolt"]


def _as(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return f"postgresql://{user}:{password}@{parts.hostname}:{parts.port}{parts.path}"


#: What production demands beside the database.
PRODUCTION = {
    "CARILLON_ENVIRONMENT": "production",
    "CARILLON_REDIS_URL": "redis://127.0.0.1:1/0",
    "CARILLON_BROKER_URL": "redis://127.0.0.1:1/1",
    "CARILLON_JWT_SECRET": secrets.token_urlsafe(48),
    "CARILLON_SECRET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "CARILLON_FLOWER_PASSWORD": secrets.token_urlsafe(24),
}


@pytest.fixture
def login(db: Session, database_url: str) -> Iterator[Callable[[str, str], str]]:
    """Make a login with a right too many; returns the database's URL for it."""
    made: list[str] = []

    def make(name: str, statement: str) -> str:
        made.append(name)
        db.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'".encode())
        db.execute(f"GRANT {APP}, {WORKER} TO {name}".encode())
        db.execute(statement.encode())
        return _as(database_url, name, "p")

    yield make
    for name in made:
        db.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER".encode())
        db.execute(f"DROP OWNED BY {name}".encode())
        db.execute(f"DROP ROLE {name}".encode())


UVICORN = ("uvicorn", "--factory", "api.app:create_app")
WORKERS = ("celery", "--quiet", "-A", "workers.app", "worker")


@pytest.mark.parametrize(
    ("program", "statement", "what"),
    [
        (UVICORN, "ALTER ROLE refused SUPERUSER", "a superuser"),
        (UVICORN, "ALTER ROLE refused BYPASSRLS", "allowed to bypass row-level security"),
        (UVICORN, "ALTER TABLE inboxes OWNER TO refused", "the owner of the tables"),
        (WORKERS, "ALTER ROLE refused SUPERUSER", "a superuser"),
    ],
)
def test_production_refuses_to_start_where_nothing_would_keep_tenants_apart(
    login: Callable[[str, str], str], program: tuple[str, ...], statement: str, what: str, tmp_path: object
) -> None:
    settings = {**PRODUCTION, "CARILLON_DATABASE_URL": login("refused", statement), "CARILLON_DATA_DIR": str(tmp_path)}
    ended = module(settings, *program)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        1,
        f"The database login refused is {what}, so nothing would keep tenants apart: name another login in "
        "CARILLON_DATABASE_URL, and the owner in CARILLON_DATABASE_OWNER_URL for migrations.",
    )


def test_production_starts_with_the_embedded_servers_login_and_is_ready(
    new_api_server: Callable[..., ApiServer], production: dict[str, str]
) -> None:
    # A server of the fixture is ready when /readyz says so.
    assert new_api_server(**production).process is not None


def test_the_embedded_servers_login_is_bound(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.application_url("postgres")) as session:
        (name,) = session.execute("SELECT session_user").fetchone() or ("",)
        told = session.execute("SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = %s", (name,))
        assert (name, told.fetchone()) == ("carillon_login", (False, False, False))
