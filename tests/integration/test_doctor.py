"""`carillon doctor`: each thing that breaks in the field is broken here, on real servers, and must be named."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import psycopg
import pytest
import redis
from sqlalchemy import make_url

from shared import migration
from shared.doctor import host, redis_servers
from shared.doctor.finding import skew_finding
from shared.embedded import EmbeddedRedis
from shared.settings import load_settings
from tests.programs import carillon
from tests.servers import ApiServer

Found = list[dict[str, Any]]
Doctor = Callable[..., Found]


@pytest.fixture
def doctor(settings_env: dict[str, str]) -> Doctor:
    """Run the command as an operator does; returns its findings after a look at its exit code."""

    def run(*arguments: str, **extra: str) -> Found:
        done = carillon({**settings_env, **extra}, "doctor", "--json", *arguments)
        assert done.stdout, done.stderr
        told = orjson.loads(done.stdout)
        found: Found = told["findings"]
        levels = {finding["level"] for finding in found}
        assert told["level"] == next(level for level in ("failure", "warning", "ok") if level in levels)
        assert done.returncode == int("failure" in levels), done.stderr
        assert all(bool(finding["advice"]) is (finding["level"] != "ok") for finding in found)
        return found

    return run


def of(found: Found, check: str) -> list[tuple[str, str]]:
    """Return level and words of one check's findings."""
    return [(finding["level"], finding["what"]) for finding in found if finding["check"] == check]


def levels(found: Found, check: str) -> set[str]:
    return {level for level, _ in of(found, check)}


def alter(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        for statement in statements:
            session.execute(statement.encode())


def test_a_healthy_installation_has_nothing_to_find_but_what_the_tests_leave_out(doctor: Doctor) -> None:
    found = doctor()
    for check in ("database", "migrations", "session_settings", "connections", "database_clock", "queue",
                  "redis_url", "redis_clock", "broker_url"):  # fmt: skip
        assert levels(found, check) == {"ok"}, of(found, check)
    assert [what for _, what in of(found, "durability")] == [
        f"PostgreSQL runs with {name} = off: an acknowledged event may be lost"
        for name in ("fsync", "synchronous_commit", "full_page_writes")
    ]
    assert levels(found, "workers") == {"failure"}
    assert levels(found, "api") == {"failure"}


def test_a_stream_is_looked_at_where_the_public_address_is_given(doctor: Doctor, api_server: ApiServer) -> None:
    found = doctor("--url", f"{api_server.url}/", "--quick", CARILLON_PORT=str(api_server.port))
    assert levels(found, "buffering") == {"ok"}
    assert levels(found, "push") == {"failure"}
    assert of(found, "api") == [("warning", "the API runs without worker")]


def test_a_missing_migration_is_named(doctor: Doctor, database_url: str) -> None:
    alter(database_url, "UPDATE alembic_version SET version_num = '0000'")
    assert of(doctor(), "migrations") == [
        ("failure", f"the database is at migration 0000, the program at {migration.head_revision()}")
    ]


def test_silent_lanes_waiting_and_failed_events_are_named(doctor: Doctor, database_url: str) -> None:
    event = """INSERT INTO events (tenant, source, id, type, data, occurred_at, accepted_at, state)
               VALUES ('platform', '/s', '{0}', 'x.y', '{{}}', now(), now() - interval '1 minute', '{0}')"""
    beat = "INSERT INTO heartbeats (lane, beaten_at) VALUES ('{}', now() - interval '{} seconds')"
    alter(database_url, event.format("failed"), event.format("accepted"), beat.format("urgent", 1),
          beat.format("fan_out", 100))  # fmt: skip
    found = doctor()
    assert [(level, what.rpartition(": it was ")[2].split(" ")[0]) for level, what in of(found, "workers")[1:]] == [
        ("failure", "last"), ("failure", "never"),
    ]  # fmt: skip
    assert of(found, "workers")[0][0] == "ok"
    assert levels(found, "queue") == {"failure"}
    assert of(found, "failed_events") == [("warning", "1 event failed")]


#: Run at every login, it undoes what the connection asked for, as a pooler does that drops it.
FORGETFUL = (
    """CREATE FUNCTION forget() RETURNS event_trigger LANGUAGE plpgsql AS
       $$ BEGIN PERFORM set_config('lock_timeout', '0', false); END $$""",
    "CREATE EVENT TRIGGER forgetful ON login EXECUTE FUNCTION forget()",
)


def test_time_limits_that_connections_ask_for_in_vain_are_named(doctor: Doctor, database_url: str) -> None:
    alter(database_url, *FORGETFUL)
    [(level, what)] = of(doctor(), "session_settings")
    assert level == "failure"
    assert what.endswith(": lock_timeout is 0, not 2s")


def test_too_few_connections_are_told_before_they_run_out(doctor: Doctor) -> None:
    [(level, what)] = of(doctor(CARILLON_DATABASE_POOL_SIZE="200"), "connections")
    assert level == "failure"
    assert "one of each process needs 210" in what


@pytest.fixture
def login_url(database_url: str) -> Iterator[str]:
    """The database's URL for a login that may take on the product's roles, and nothing else."""
    alter(database_url, "CREATE ROLE doctor_login LOGIN PASSWORD 'pw'",
          "GRANT carillon_app, carillon_worker TO doctor_login WITH INHERIT FALSE, SET TRUE")  # fmt: skip
    yield make_url(database_url).set(username="doctor_login", password="pw").render_as_string(hide_password=False)
    alter(database_url, "ALTER TABLE inboxes OWNER TO carillon", "DROP ROLE doctor_login")


def test_row_security_that_does_not_bind_is_named_with_its_reason(
    doctor: Doctor, database_url: str, login_url: str
) -> None:
    def told() -> list[tuple[str, str]]:
        return of(doctor(CARILLON_DATABASE_URL=login_url), "row_security")

    def unbound(why: str) -> list[tuple[str, str]]:
        return [("warning", f"The database login doctor_login is {why}, so nothing would keep tenants apart")]

    bound = [("ok", "row-level security binds the application's login and roles")]
    assert told() == bound
    for given, taken, why in (
        ("ALTER ROLE doctor_login BYPASSRLS", "ALTER ROLE doctor_login NOBYPASSRLS",
         "allowed to bypass row-level security"),
        ("ALTER ROLE doctor_login SUPERUSER", "ALTER ROLE doctor_login NOSUPERUSER", "a superuser"),
        ("ALTER TABLE inboxes OWNER TO doctor_login", "ALTER TABLE inboxes OWNER TO carillon",
         "the owner of the tables"),
    ):  # fmt: skip
        alter(database_url, given)
        assert told() == unbound(why)
        alter(database_url, taken)
    alter(
        database_url, "ALTER TABLE inboxes NO FORCE ROW LEVEL SECURITY", "ALTER TABLE events DISABLE ROW LEVEL SECURITY"
    )
    assert told() == [("warning", "row-level security does not bind everybody on events, inboxes")]


def test_a_broker_that_evicts_forgets_or_is_full_is_named(doctor: Doctor, private_redis: EmbeddedRedis) -> None:
    with redis.Redis.from_url(private_redis.url()) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        used: Any = client.info()
        client.config_set("maxmemory", int(used["used_memory"] * 1.05))
    told = [what for level, what in of(doctor(CARILLON_BROKER_URL=private_redis.url()), "broker_url") if level != "ok"]
    assert told[0] == "the broker evicts (allkeys-lru): when memory is short, tasks vanish"
    assert "of its maxmemory" in told[1]
    assert told[2].startswith("the broker forgets tasks when it restarts")


def test_a_redis_that_is_away_is_named(doctor: Doctor) -> None:
    found = doctor(CARILLON_REDIS_URL="redis://127.0.0.1:1/0")
    [(level, what)] = of(found, "redis_url")
    assert level == "failure"
    assert what.startswith("Redis does not answer (")
    assert levels(found, "broker_url") == {"ok"}


def test_a_disk_that_refuses_the_broker_is_named() -> None:
    told = {"aof_enabled": 1, "aof_last_write_status": "err"}
    [finding] = redis_servers._persistence("broker_url", "the broker", told, load_settings())
    assert finding.level == "failure"
    assert finding.what == "the broker cannot write to its disk (aof_last_write_status)"


@pytest.mark.parametrize(("seconds", "level"), [(-2.1, "warning"), (-1.9, "ok"), (0.0, "ok"), (2.1, "warning")])
def test_clocks_may_be_two_seconds_apart(seconds: float, level: str) -> None:
    assert skew_finding("database_clock", "the database's", seconds).level == level


def test_weak_secrets_are_named_before_production_refuses_them(doctor: Doctor) -> None:
    found = doctor(CARILLON_JWT_SECRET="change-me-change-me-change-me-change-me")
    [(level, what)] = of(found, "secrets")
    assert level == "warning"
    assert what.startswith("CARILLON_JWT_SECRET looks like an example, not like a secret")


def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(doctor: Doctor) -> None:
    (told,) = of(doctor(CARILLON_HEARBEAT_SECONDS="5"), "settings")
    assert told == (
        "warning",
        "CARILLON_HEARBEAT_SECONDS is no setting, so nobody reads it: is CARILLON_HEARTBEAT_SECONDS meant?",
    )


def test_too_few_files_for_the_streams_are_named(doctor: Doctor) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    [(level, what)] = of(doctor(CARILLON_STREAMS_PER_PROCESS=str(hard)), "open_files")
    assert (level, f"({hard:,})" in what) == ("warning", True)
    assert levels(doctor(CARILLON_STREAMS_PER_PROCESS="100"), "open_files") == {"ok"}


@pytest.mark.parametrize(
    ("free", "level"), [(host.FULL_BYTES - 1, "failure"), (host.FULL_BYTES, "warning"), (host.SCARCE_BYTES, "ok")]
)
def test_a_full_disk_is_named(free: int, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert [finding.level for finding in host._disk(load_settings(data_dir=tmp_path))] == [level]
