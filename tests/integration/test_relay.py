"""The outbox of a producer with a database of its own, on two real databases: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from carillon_client import Event
from carillon_client import outbox as client
from psycopg import sql
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from shared import db, directory, exposition, outbox
from shared.embedded import EmbeddedPostgres
from shared.settings import PROJECT_ROOT, settings
from tests.eventually import eventually
from tests.outboxes import (
    NAME,
    RelayProcess,
    dumped,
    make,
    refusals,
    relay_once,
    setting,
    waiting,
    write,
)
from tests.producers import TENANT, envelope, make_key, post, rows, stored
from tests.servers import Worker, killed_by_itself
from workers.fan_out import fan_out_pending

Producer = psycopg.Connection[Any]
DATA = {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"}


@pytest.fixture
def producer_url(empty_database_url: str, settings_env: dict[str, str]) -> str:
    """A producer's own database with an outbox that Carillon knows; its events may be of the tenant `acme`."""
    make(empty_database_url)
    settings_env["CARILLON_OUTBOXES"] = dumped(setting(empty_database_url, TENANT))
    return empty_database_url


@pytest.fixture
def producer(producer_url: str, configured: dict[str, str]) -> Iterator[Producer]:
    """A session of the producer; Carillon knows the tenant, and Ann."""
    with db.transaction("*") as connection:
        directory.ensure_tenant(connection, TENANT)
        directory.import_recipients(connection, [{"tenant": TENANT, "id": "ann"}])
    with psycopg.connect(producer_url) as session:
        yield session


@pytest.fixture
def new_relay(
    producer: Producer, zygote: object, settings_env: dict[str, str], tmp_path: Path
) -> Iterator[Callable[[], RelayProcess]]:
    """Start as many relay processes as asked for."""
    made: list[RelayProcess] = []

    def start() -> RelayProcess:
        made.append(RelayProcess(settings_env, tmp_path / f"relay-{len(made)}.log"))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.kill()


def events(database_url: str) -> list[str]:
    return [row[0] for row in rows(database_url, "SELECT id FROM events ORDER BY key")]


# --- the way ---


def test_what_the_producer_commits_becomes_an_event_and_leaves_the_outbox(
    producer: Producer, producer_url: str, database_url: str
) -> None:
    engine = create_engine(db.sqlalchemy_url(producer_url))
    with Session(engine) as session:
        client.publish(session, Event("achievement.awarded", TENANT, "/tests", DATA, id="rolled-back"))
        session.rollback()
        assert client.publish(session, Event("achievement.awarded", TENANT, "/tests", DATA, id="e1")) == "accepted"
        assert relay_once().stored == []
        session.commit()
    engine.dispose()
    client.publish(producer, envelope("e2", time="2026-03-01T12:00:00Z"))
    producer.commit()
    assert len(relay_once().stored) == 2
    assert (waiting(producer), relay_once().stored) == ([], [])
    query = "SELECT id, type, data, registers, length(content_hash), time FROM events ORDER BY id"
    assert rows(database_url, query) == [
        ("e1", "achievement.awarded", DATA, False, 32, None),
        ("e2", "achievement.awarded", DATA, False, 32, "2026-03-01T12:00:00Z"),
    ]


def test_an_event_without_a_time_happened_when_it_was_written(producer: Producer, database_url: str) -> None:
    write(producer, envelope("e1"))
    producer.execute("UPDATE carillon_outbox SET written_at = '2026-03-01T12:00:00Z'")
    producer.commit()
    relay_once()
    query = "SELECT occurred_at = '2026-03-01T12:00:00Z', accepted_at > occurred_at + interval '1 d' FROM events"
    assert rows(database_url, query) == [(True, True)]


def test_the_process_brings_it_to_the_inbox_counts_it_and_ends_when_told(
    producer: Producer, new_relay: Callable[[], RelayProcess], worker: Worker, database_url: str
) -> None:
    relay = new_relay()
    client.publish(producer, envelope("e1"))
    write(producer, envelope("e1"), envelope("w", type="no.such"))
    producer.commit()
    eventually(lambda: rows(database_url, "SELECT recipient, unread FROM inboxes") == [("ann", 1)], within=30.0)
    eventually(lambda: waiting(producer) == [], within=30.0)
    assert relay.stop() == 0
    assert "relay.stopped" in relay.output
    counts = exposition.counted(settings().metrics_folder).sums
    told = [counts[name] for name in (("carillon_events_total", "", "accepted"),
                                      ("carillon_events_total", "", "duplicate"),
                                      ("carillon_outbox_refused_total", "", NAME))]  # fmt: skip
    assert told == [1, 1, 1]
    assert counts["carillon_outbox_last_look_timestamp_seconds", "", NAME] > 0


def test_tenants_of_several_databases_may_share_an_outbox(
    settings_env: dict[str, str],
    empty_database_url: str,
    new_database: Callable[[], str],
    request: pytest.FixtureRequest,
) -> None:
    make(empty_database_url)
    own = new_database()
    settings_env["CARILLON_OUTBOXES"] = dumped(setting(empty_database_url, "*"))
    settings_env["CARILLON_TENANT_DATABASES"] = orjson.dumps({"uni-north": own}).decode()
    request.getfixturevalue("configured")
    for tenant in (TENANT, "uni-north"):
        with db.transaction(tenant) as connection:
            directory.ensure_tenant(connection, tenant)
    with psycopg.connect(empty_database_url) as session:
        write(session, envelope("e1"), envelope("e2", tenant="uni-north"), envelope("e3"))
        session.commit()
        assert (relay_once().homes, waiting(session)) == ({"shared", "uni-north"}, [])
    assert events(settings_env["CARILLON_DATABASE_URL"]) == ["e1", "e3"]
    assert events(own) == ["e2"]


# --- exactly once ---


def die_between_the_commits(environment: dict[str, str]) -> None:
    """Relay in a process that kills itself once Carillon's database has committed."""
    code = (
        "import os, signal\nfrom tests.outboxes import relay_once\n"
        "relay_once(between=lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    killed_by_itself(code, environment)


def test_a_relay_killed_between_the_two_commits_loses_and_doubles_nothing(
    producer: Producer, configured: dict[str, str], database_url: str
) -> None:
    """Pins the order of the commits: there first, then the outbox. The other way round, what it took is lost."""
    write(producer, *(envelope(f"e{number}") for number in range(3)))
    producer.commit()
    die_between_the_commits(configured)
    assert (events(database_url), waiting(producer)) == (["e0", "e1", "e2"], [1, 2, 3])
    fan_out_pending()
    producer.commit()
    assert relay_once().stored == [1, 2, 3]
    fan_out_pending()
    assert (events(database_url), waiting(producer)) == (["e0", "e1", "e2"], [])
    assert rows(database_url, "SELECT recipient, created FROM inboxes") == [("ann", 3)]


async def test_what_was_posted_before_notifies_nobody_again(
    producer: Producer, api: httpx.AsyncClient, database_url: str
) -> None:
    await post(api, make_key(), envelope("e1"))
    write(producer, envelope("e1"), envelope("e2"), envelope("e2"))
    producer.commit()
    assert relay_once().stored == [1, 2, 3]
    write(producer, envelope("e2"))
    producer.commit()
    assert relay_once().stored == [4]
    fan_out_pending()
    assert events(database_url) == ["e1", "e2"]
    assert rows(database_url, "SELECT recipient, created FROM inboxes") == [("ann", 2)]
    assert (await post(api, make_key(), envelope("e2"))).json()["events"][0]["status"] == "duplicate"


def test_a_transaction_that_commits_late_leaves_its_smaller_positions_to_be_taken(
    producer: Producer, producer_url: str, database_url: str
) -> None:
    """Fails where the relay remembers how far it was: sequence numbers are drawn before the commit."""
    write(producer, envelope("early"))
    with psycopg.connect(producer_url) as other:
        write(other, envelope("late"))
        other.commit()
        assert (relay_once().stored, events(database_url)) == ([2], ["late"])
        assert relay_once().stored == []
        producer.commit()
        assert (relay_once().stored, events(database_url)) == ([1], ["late", "early"])
        assert waiting(other) == []


def test_one_relay_at_a_time_works_on_an_outbox(producer: Producer, database_url: str) -> None:
    write(producer, envelope("e1"))
    producer.commit()
    others: list[list[int]] = []
    assert relay_once(between=lambda: others.append(relay_once().stored)).stored == [1]
    assert (others, events(database_url)) == ([[]], ["e1"])


def test_a_relay_that_stands_still_lets_another_one_go_on(
    producer: Producer, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    bounds = text("SELECT set_config('idle_in_transaction_session_timeout', '500', true)")
    monkeypatch.setattr(outbox, "_BOUNDS", bounds)
    write(producer, envelope("e1"))
    producer.commit()
    other: list[int] = []

    def another_goes_on() -> bool:
        other.extend(relay_once().stored)
        return bool(other)

    with pytest.raises(DBAPIError):
        relay_once(between=lambda: eventually(another_goes_on, within=30.0))
    assert (other, events(database_url), waiting(producer)) == ([1], ["e1"], [])


def test_two_relay_processes_take_each_event_once(
    producer: Producer, new_relay: Callable[[], RelayProcess], database_url: str
) -> None:
    new_relay()
    second = new_relay()
    for batch in range(20):
        write(producer, *(envelope(f"e{batch}-{number}") for number in range(60)))
        producer.commit()
        if batch == 10:
            second.kill()
    eventually(lambda: waiting(producer) == [], within=60.0)
    assert refusals(producer) == []
    assert stored(database_url) == len(set(events(database_url))) == 1_200


# --- refused ---

WRONG: dict[str, tuple[Any, str]] = {
    "type": (envelope("w", type="no.such"), "The event is not valid. type is not an event type of the catalog."),
    "data": (envelope("w", data={"student_id": 7}), "data.student_id"),
    "tenant of somebody else": (envelope("w", tenant="globex"), "tenant is none that this outbox may post for."),
    "no object": ([1, 2], "The event must be a JSON object."),
    "deep": (envelope("w", data={"a": orjson.loads("[" * 40 + "]" * 40)}), "is nested deeper than 32 levels"),
    "too large": (envelope("w", note="x" * 70_000), "The event is larger than 65536 bytes."),
    "far too large": (envelope("w", data={**DATA, "title": "x" * 200_000}), "The event is larger than 65536 bytes."),
    "source": (envelope("w", source="/carillon/failed-logins"), "source is reserved."),
    "other content": (envelope("e1", subject="other"), "id was posted before with other content."),
}


def test_what_is_relayed_of_a_sampled_trace_is_logged_with_its_id(
    producer: Producer, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    write(producer, *(envelope(flags, traceparent=f"00-{trace}-00f067aa0ba902b7-{flags}") for flags in ("00", "01")))
    producer.commit()
    assert relay_once().stored == [1, 2]
    told = [line for line in capsys.readouterr().out.splitlines() if trace in line]
    assert [("event.accepted" in line, "id=01" in line) for line in told] == [(True, True)]


@pytest.mark.parametrize("case", WRONG)
def test_a_refused_event_is_set_aside_with_its_reason_and_keeps_nobody_waiting(
    case: str, producer: Producer, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, reason = WRONG[case]
    write(producer, envelope("e1"), wrong, envelope("e2"))
    producer.commit()
    taken = relay_once()
    assert (taken.stored, list(taken.refused)) == ([1, 3], [2])
    assert (waiting(producer), events(database_url)) == ([], ["e1", "e2"])
    [(position, told)] = refusals(producer)
    assert position == 2
    assert reason in told
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if "outbox.refused" in line and "position=2" in line]
    assert "First steps" not in printed
    assert relay_once().refused == {}


def test_an_unknown_tenant_is_refused_and_taken_once_it_is_known(
    settings_env: dict[str, str], empty_database_url: str, request: pytest.FixtureRequest, database_url: str
) -> None:
    settings_env["CARILLON_OUTBOXES"] = dumped(setting(empty_database_url, "*"))
    make(empty_database_url)
    request.getfixturevalue("configured")
    with psycopg.connect(empty_database_url) as session:
        write(session, envelope("e1", tenant="nowhere"), envelope("e2", tenant="elsewhere"))
        session.commit()
        assert list(relay_once().refused) == [1, 2]
        assert [why for _, why in refusals(session)] == ["The tenant is not known. tenant is not a known tenant."] * 2
        session.commit()
        with db.transaction("*") as connection:
            directory.ensure_tenant(connection, "nowhere")
        command(settings_env, "outbox", "retry", NAME, "1")
        assert (relay_once().stored, events(database_url)) == ([1], ["e1"])
        assert [position for position, _ in refusals(session)] == [2]


def test_an_event_that_the_database_does_not_take_is_found_among_the_others(
    producer: Producer, database_url: str
) -> None:
    rows_before = "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (id <> 'poison')"
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(rows_before.encode())
    write(producer, *(envelope(f"e{number}") for number in range(20)), envelope("poison"), envelope("last"))
    producer.commit()
    taken = relay_once()
    assert len(taken.stored) == 21
    assert refusals(producer) == [(21, "The event cannot be stored.")]
    assert sorted(events(database_url)) == sorted([*(f"e{number}" for number in range(20)), "last"])


# --- away ---


def test_while_carillons_database_is_away_everything_waits_in_the_outbox(
    producer: Producer, postgres: EmbeddedPostgres, database_url: str
) -> None:
    write(producer, envelope("e1"), envelope("w", type="no.such"))
    producer.commit()
    name = sql.Identifier(database_url.rpartition("/")[2])
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
        session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        db.forget_engines()
        try:
            with pytest.raises(DBAPIError):
                relay_once()
            assert (waiting(producer), refusals(producer)) == ([1, 2], [])
        finally:
            session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    producer.commit()
    taken = relay_once()
    assert (taken.stored, list(taken.refused), events(database_url)) == ([1], [2], ["e1"])


def test_a_producers_database_may_be_away_and_the_other_ones_are_served(
    settings_env: dict[str, str], producer_url: str, private_postgres: EmbeddedPostgres,
    request: pytest.FixtureRequest, database_url: str,
) -> None:  # fmt: skip
    other = private_postgres.url("postgres")
    make(other)
    settings_env["CARILLON_OUTBOXES"] = dumped(setting(producer_url, TENANT), setting(other, TENANT, name="lms"))
    producer = request.getfixturevalue("producer")
    start = request.getfixturevalue("new_relay")
    private_postgres.kill()
    relay = start()
    eventually(lambda: relay.output.count("outbox.away") > 1, within=30.0)
    write(producer, envelope("e1"))
    producer.commit()
    eventually(lambda: events(database_url) == ["e1"], within=30.0)
    private_postgres.start()
    with psycopg.connect(other) as session:
        write(session, envelope("e2"))
        session.commit()
        eventually(lambda: waiting(session) == [], within=60.0)
    assert events(database_url) == ["e1", "e2"]


# --- set-up ---


def command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as an operator does."""
    program = [str(Path(sys.executable).with_name("carillon")), *arguments]
    return subprocess.run(
        program,
        env={**os.environ, **environment},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_grants_that_are_printed_are_all_that_producer_and_relay_need(
    postgres: EmbeddedPostgres, producer: Producer, producer_url: str, settings_env: dict[str, str]
) -> None:
    name = producer_url.rpartition("/")[2]
    app, reader = f"app_{name}", f"relay-{name}"
    printed = command(settings_env, "outbox", "sql", "--producer", app, "--relay", reader)
    assert (printed.returncode, printed.stderr) == (0, "")
    with psycopg.connect(producer_url, autocommit=True) as owner:
        for role in (app, reader):
            owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p'").format(sql.Identifier(role)))
        try:
            owner.execute(printed.stdout.encode())
            _publishes_and_no_more(producer_url, app)
            _relays(producer_url, reader)
        finally:
            for role in (app, reader):
                owner.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
                owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def _as(url: str, role: str) -> str:
    place = url.rpartition("@")[2]
    return f"postgresql://{role}:p@{place}"


def _publishes_and_no_more(url: str, app: str) -> None:
    with psycopg.connect(_as(url, app)) as session:
        client.publish(session, envelope("e1"))
        session.commit()
        for forbidden in ("SELECT * FROM carillon_outbox", "DELETE FROM carillon_outbox",
                          "INSERT INTO carillon_outbox (event, reason) VALUES ('{}', 'x')"):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(forbidden.encode())
            session.rollback()


def _relays(url: str, reader: str) -> None:
    with psycopg.connect(url) as session:
        write(session, envelope("w", type="no.such"))
    engine = create_engine(db.sqlalchemy_url(_as(url, reader)))
    from workers.relay import relay_some

    taken = relay_some(NAME, engine)
    engine.dispose()
    assert (taken.stored, list(taken.refused)) == ([1], [2])


def test_the_statements_may_be_run_again_and_not_in_carillons_own_database(
    producer: Producer, producer_url: str, database_url: str
) -> None:
    client.publish(producer, envelope("e1"))
    producer.commit()
    make(producer_url)
    assert waiting(producer) == [1]
    with pytest.raises(psycopg.errors.RaiseException, match="Carillon's own database"):
        make(database_url)


def test_what_is_certainly_no_event_ends_the_producers_transaction(producer: Producer) -> None:
    wrong: dict[str, Any] = {
        "must be a JSON object": [1],
        "specversion must be": envelope(specversion="2.0"),
        "id must be a text of 1 to 200": envelope(id=""),
        "tenant must be a text": envelope(tenant=7),
        "data must be a JSON object": envelope(data=[]),
    }
    for sentence, event in wrong.items():
        with pytest.raises(psycopg.Error, match=sentence):
            producer.execute("SELECT carillon_publish(%s::jsonb)", (orjson.dumps(event).decode(),))
        producer.rollback()
    assert waiting(producer) == []


def test_a_relay_that_can_never_work_says_why_in_one_sentence_and_ends(
    producer_url: str, settings_env: dict[str, str], database_url: str
) -> None:
    name, place = producer_url.rpartition("/")[2], producer_url.rpartition("@")[2]
    cases = {
        "": "There is no outbox to empty: set CARILLON_OUTBOXES.",
        database_url: "The outbox registrar has no table public.carillon_outbox: run there what "
        "`carillon outbox sql --schema public` prints.",
        f"postgresql://nobody:p@{place}": 'failed for user "nobody"): correct CARILLON_OUTBOXES.',
        producer_url.replace(name, "nowhere"): '"nowhere" does not exist): correct CARILLON_OUTBOXES.',
    }
    for url, sentence in cases.items():
        told = dumped(setting(url, TENANT)) if url else ""
        ended = command({**settings_env, "CARILLON_OUTBOXES": told}, "relay")
        assert ended.returncode == 1
        assert sentence in ended.stderr
        assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr


def test_the_operator_sees_what_waits_and_what_is_refused(producer: Producer, settings_env: dict[str, str]) -> None:
    write(producer, envelope("w", type="no.such"), envelope("w2", type="no.such"))
    producer.commit()
    relay_once()
    write(producer, envelope("e1"))
    producer.execute("UPDATE carillon_outbox SET written_at = now() - interval '1 h' WHERE position = 3")
    producer.commit()
    told = orjson.loads(command(settings_env, "outbox", "status", "--json").stdout)[NAME]
    assert (told["waiting"], told["refused"], told["oldestSeconds"] >= 3_600) == (1, 2, True)
    shown = command(settings_env, "outbox", "refused", NAME).stdout
    assert "type is not an event type of the catalog" in shown
    found = orjson.loads(command(settings_env, "doctor", "--json").stdout)["findings"]
    levels = {each["check"]: each["level"] for each in found if each["check"].startswith("outbox")}
    assert levels == {"outbox": "failure", "outbox_refused": "warning"}
    assert command(settings_env, "outbox", "retry", NAME, "--all").stdout == "2 events will be taken again.\n"
    assert waiting(producer) == [1, 2, 3]
    again = command(settings_env, "outbox", "retry", NAME, "1")
    assert (again.returncode, again.stderr) == (1, "No refused event has such a position.\n")
