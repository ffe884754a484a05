"""The command line on a real database, without a server: each command in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import psycopg
import pytest
import redis
import structlog

from api.auth import subscriber_of
from shared import db, keys, statements
from shared.cli import app
from shared.cli.console import run
from shared.embedded import EmbeddedRedis
from shared.settings_checks import is_weak


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def bare_cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process, with whatever settings it finds."""

    def command(*arguments: str) -> Result:
        capsys.readouterr()
        code = run(app, list(arguments))
        structlog.reset_defaults()
        return Result(code, *capsys.readouterr())

    return command


@pytest.fixture
def cli(configured: dict[str, str], bare_cli: Cli) -> Cli:
    """Run a command in this process, on this test's servers."""
    return bare_cli


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as session:
        return session.execute(statement).fetchall()


def one_sentence(result: Result, words: str) -> None:
    """Check that a command failed as all do: exit code 1, one line on standard error, nothing of a traceback."""
    assert result.code == 1
    assert result.err.count("\n") == 1, result.err
    assert words in result.err
    assert "Traceback" not in result.err


def test_a_producer_key_stands_alone_on_the_last_line_and_works_until_it_is_revoked(cli: Cli) -> None:
    made = cli("key", "create", "--tenant", "acme", "--tenant", "initech", "--scope", "events:write",
               "--scope", "directory:write")  # fmt: skip
    assert (made.code, made.err) == (0, "")
    key = made.out.splitlines()[-1]
    with db.transaction("*") as connection:
        verified = statements.run(connection, keys.verify(key))
    assert verified.tenants == frozenset({"acme", "initech"})
    assert verified.scopes == {"events:write", "directory:write"}
    prefix = keys.prefix_of(key)
    listed = cli("key", "list").out
    assert prefix in listed
    assert key not in listed
    assert cli("key", "revoke", prefix) == Result(0, f"The key {prefix} is revoked.\n", "")
    one_sentence(cli("key", "revoke", prefix), f"There is no live key {prefix}")


def test_a_key_for_every_tenant_is_bound_to_none(cli: Cli) -> None:
    key = cli("key", "create", "--tenant", "*").out.splitlines()[-1]
    with db.transaction("*") as connection:
        assert statements.run(connection, keys.verify(key)).tenants is None
    assert rows(db.database_url(), "SELECT id FROM tenants") == [("platform",)]


@pytest.mark.parametrize("purpose", ["celery", "github", "standard"])
def test_a_signing_secret_stands_alone_on_the_last_line_with_its_id_before(cli: Cli, purpose: str) -> None:
    made = cli("secret", "create", "--for", purpose, "--tenant", "acme")
    assert (made.code, made.err) == (0, "")
    id, secret = made.out.splitlines()[-2:]
    stored = rows(db.database_url(), "SELECT 'id ' || id, purpose, tenant FROM signing_secrets")
    assert stored == [(id, purpose, "acme")]
    assert " " not in secret
    assert len(secret) >= 40


def test_a_token_speaks_for_the_recipient_with_the_roles(cli: Cli) -> None:
    made = cli("token", "--tenant", "acme", "--recipient", "ada", "--role", "student", "--ttl", "15m")
    who = subscriber_of(made.out.strip())
    assert (who.tenant, who.recipient, who.roles) == ("acme", "ada", ("student",))


@pytest.mark.parametrize("ttl", ["0", "25h", "1d", "-5", "", "²m", "h"])
def test_a_token_lives_a_day_at_most(cli: Cli, ttl: str) -> None:
    one_sentence(cli("token", "--tenant", "acme", "--recipient", "ada", "--ttl", ttl), "--ttl must be a time")


def test_a_renewed_epoch_is_another_one(cli: Cli) -> None:
    before = rows(db.database_url(), "SELECT epoch FROM deployment")
    told = cli("epoch", "renew")
    after = rows(db.database_url(), "SELECT epoch FROM deployment")
    assert after > before
    assert told.out == f"The epoch is {after[0][0]} now.\n"


FAILED = """INSERT INTO events (tenant, source, id, type, data, occurred_at, state, attempts, error)
    SELECT 'platform', '/s', 'e' || n, 'x.y', '{}', now(), 'failed', 5, 'broken' FROM generate_series(1, 3) n"""
STATES = "SELECT id, state, attempts, error FROM events ORDER BY id"


def test_a_failed_event_is_tried_again_alone_or_with_all_others(cli: Cli) -> None:
    url = db.database_url()
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(FAILED)
        session.execute("INSERT INTO fan_out_chunks (event_key, number, after_key, up_to_key, state, attempts) "
                        "SELECT key, 1, 0, 9, 'failed', 5 FROM events WHERE id = 'e2'")  # fmt: skip
    one = cli("events", "retry", "--tenant", "platform", "--source", "/s", "e1")
    assert one.out == "1 event will be tried again.\n"
    assert rows(url, STATES)[:2] == [("e1", "accepted", 0, None), ("e2", "failed", 5, "broken")]
    assert cli("events", "retry", "--all-failed").out == "2 events will be tried again.\n"
    assert [row[1] for row in rows(url, STATES)] == ["accepted", "fanning_out", "accepted"]
    assert rows(url, "SELECT state, attempts FROM fan_out_chunks") == [("pending", 0)]
    one_sentence(cli("events", "retry", "--tenant", "platform", "--source", "/s", "e1"), "There is no failed event e1")
    assert cli("events", "retry", "--all-failed").out == "0 events will be tried again.\n"
    one_sentence(cli("events", "retry"), "Name one event")


CSV = """tenant,id,roles,locale,plan
acme,ada,student; agent,de,gold
acme,grace,,,
nowhere,eve,,,
acme,,,,
acme,linus,student,x!,
"""


def test_recipients_are_imported_from_csv_and_wrong_rows_are_told_by_their_line(cli: Cli, tmp_path: Path) -> None:
    cli("key", "create", "--tenant", "acme")
    file = tmp_path / "people.csv"
    file.write_text(CSV)
    told = cli("recipients", "import", str(file))
    assert (told.code, told.out) == (1, "2 recipients imported, 3 rows rejected.\n")
    assert told.err.splitlines() == [
        "line 4: tenant is not a known tenant",
        "line 5: id is required",
        "line 6: locale must be a language tag such as en or pt-BR",
        f"What is wrong with which row: {file}.rejected.csv",
    ]
    stored = (
        "SELECT r.id, locale, attributes, array_agg(role ORDER BY role) FROM recipients r LEFT JOIN recipient_roles"
    )
    assert rows(db.database_url(), f"{stored} USING (key) GROUP BY 1, 2, 3 ORDER BY 1") == [
        ("ada", "de", {"plan": "gold"}, ["agent", "student"]),
        ("grace", "en", {}, [None]),
    ]


def test_recipients_are_imported_from_ndjson_by_the_thousand(cli: Cli, tmp_path: Path) -> None:
    cli("key", "create", "--tenant", "acme")
    people = [{"id": f"p-{number}", "roles": ["student"]} for number in range(2_345)]
    file = tmp_path / "people.ndjson"
    file.write_bytes(b"\n".join(orjson.dumps(person) for person in people))
    expected = Result(0, "2,345 recipients imported, 0 rows rejected.\n", "")
    assert cli("recipients", "import", str(file), "--tenant", "acme") == expected
    assert cli("recipients", "import", str(file), "--tenant", "acme") == expected
    assert rows(db.database_url(), "SELECT count(*) FROM recipients") == [(2_345,)]
    file.write_text('{"id": "x"}\n{"id": \n[1]\n')
    again = cli("recipients", "import", str(file), "--tenant", "acme")
    assert (again.code, again.out) == (1, "1 recipient imported, 2 rows rejected.\n")
    assert [line.partition(" (")[0] for line in again.err.splitlines()] == [
        "line 2: is not valid JSON",
        "line 3: is no JSON object",
        f"What is wrong with which row: {file}.rejected.csv",
    ]


def test_the_demo_people_are_seeded_once(cli: Cli) -> None:
    count = "SELECT (SELECT count(*) FROM recipients), (SELECT count(*) FROM topic_members)"
    assert cli("demo", "seed").code == 0
    first = rows(db.database_url(), count)
    assert cli("demo", "seed").code == 0
    assert rows(db.database_url(), count) == first == [(12, 4)]


def test_status_tells_the_numbers_and_what_failed(cli: Cli) -> None:
    with psycopg.connect(db.database_url(), autocommit=True) as session:
        session.execute(FAILED)
    told = orjson.loads(cli("status", "--json").out)
    assert told["database"]["events"] == {"failed": 3}
    assert told["database"]["queue"] == {"open": 0, "oldestSeconds": 0.0}
    assert [event["id"] for event in told["database"]["failed"]] == ["e3", "e2", "e1"]
    assert told["broker"]["evictionPolicy"] == "noeviction"
    assert set(told["waiting"].values()) == {0}
    shown = cli("status")
    assert shown.code == 0
    for words in ("PostgreSQL", "no worker was heard yet", "events failed", "broken"):
        assert words in shown.out


def test_the_doctor_names_what_is_missing_and_what_to_do(cli: Cli) -> None:
    told = cli("doctor")
    assert told.code == 1
    assert "✓ every migration is there" in told.out
    assert "✗ the lane urgent has no worker: it was never heard" in told.out
    assert "✗ PostgreSQL runs with fsync = off" in told.out
    assert told.out.count("\n  → ") == told.out.count("✗") + told.out.count("! ")


def test_the_doctor_sees_a_broker_that_forgets(
    private_redis: EmbeddedRedis, settings_env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    settings_env["CARILLON_BROKER_URL"] = private_redis.url()
    with redis.Redis.from_url(private_redis.url()) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    cli: Cli = request.getfixturevalue("cli")
    assert "✗ the broker evicts (allkeys-lru)" in cli("doctor").out


def test_the_doctor_and_others_ask_for_the_migration(
    empty_database_url: str, settings_env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    settings_env["CARILLON_DATABASE_URL"] = empty_database_url
    cli: Cli = request.getfixturevalue("cli")
    assert "✗ the database is not migrated\n  → run `carillon migrate`" in cli("doctor").out
    one_sentence(cli("key", "create", "--tenant", "acme"), "run `carillon migrate`")
    assert cli("migrate").code == 0
    assert "✓ every migration is there" in cli("doctor").out


@pytest.mark.parametrize(
    ("secret", "weak"),
    [("change-me-change-me-change-me-change", True), ("a" * 40, True), ("kP3vXq9Z-u7TbWm2_LsYd8RfGh5NcJe", False)],
)
def test_a_secret_from_an_example_is_told_from_a_drawn_one(secret: str, weak: bool) -> None:
    assert is_weak(secret) is weak


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["publish", "--type", "a.b"], "--tenant, --data"),
        (["publish", "--type", "a.b", "--tenant", "acme", "--data", "{"], "--data is not valid JSON"),
        (["publish", "--type", "a.b", "--tenant", "acme", "--data", "@/nowhere"], "/nowhere: No such file"),
        (["publish", "--type", "a.b", "--tenant", "acme", "--data", f"@{sys.executable}"], "The body is not UTF-8"),
        (["publish", "--type", "a.b", "--tenant", "acme", "--data", "[" * 100_000], "nested deeper than 32 levels"),
        (
            ["publish", "--type", "a.b", "--tenant", "acme", "--data", '["\\ud800"]'],
            "--data is not accepted: 0 contains",
        ),
        (["publish", "--type", "a.b", "--tenant", "acme", "--data", "{}", "--key", "clé"], "key or token is not valid"),
        (["publish", "/nowhere"], "/nowhere: No such file"),
        (["publish", "--bogus"], "--bogus"),
        (["recipients", "import", "/nowhere"], "/nowhere: No such file"),
        (["tail", "--tenant", "acme"], "--recipient"),
        (["tail", "--tenant", "acme", "--recipient", "ada", "--since", "x"], "--since must be a cursor"),
        (["tail", "--tenant", "acme", "--recipient", "ada", "--server", "http://127.0.0.1:1"], "does not answer at"),
        (["demo", "github", "--payloads", "/nowhere"], "no example deliveries at /nowhere"),
        (["secret", "create", "--for", "fax", "--tenant", "acme"], "fax"),
        (["key", "create", "--tenant", "no spaces"], "The input is not valid: tenant must have 1 to 100"),
        (["token", "--tenant", "acme", "--recipient", ""], "--recipient must be a text of 1 to 200"),
        (["token", "--tenant", "acme", "--recipient", "a", "--role", "a\nb"], "--role must be a text of 1 to 200"),
        (["events", "retry", "\udcff", "--tenant", "acme", "--source", "/s"], "Argument 3 is not UTF-8."),
        (["doctor", "--quick"], "name that, too"),
        (["doctor", "--url", "example.org"], "--url must be an address"),
        (["nonsense"], "nonsense"),
    ],
)
def test_every_failure_is_one_sentence(cli: Cli, arguments: list[str], words: str) -> None:
    one_sentence(cli(*arguments), words)


def test_a_database_that_is_away_is_one_sentence(settings_env: dict[str, str], request: pytest.FixtureRequest) -> None:
    settings_env["CARILLON_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    cli: Cli = request.getfixturevalue("cli")
    one_sentence(cli("key", "list"), "Connection refused")
    one_sentence(cli("status"), "The database does not answer")
    assert "✗ the database does not answer" in cli("doctor").out


def test_without_settings_and_without_a_running_server_every_command_says_how_to_start(
    bare_cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("CARILLON_DATA_DIR", str(tmp_path))
    request.getfixturevalue("forgotten_settings")
    one_sentence(bare_cli("key", "list"), "`make up`")
    one_sentence(bare_cli("token", "--tenant", "acme", "--recipient", "ada"), "`make up`")


@pytest.fixture
def forgotten_settings() -> Iterator[None]:
    """Have this process read its settings anew, now and after the test."""
    from shared.settings import settings

    settings.cache_clear()
    db.forget_engines()
    yield
    settings.cache_clear()
    db.forget_engines()


def test_help_needs_no_server_and_names_every_command(bare_cli: Cli) -> None:
    told = bare_cli("--help")
    assert told.code == 0
    commands = "up migrate epoch catalog publish tail key secret token recipients events status doctor demo"
    assert [name for name in commands.split() if f" {name} " not in told.out] == []
    assert bare_cli().code == 0
