"""An outbox's table and grants, the relay's start, and what an operator sees and does."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg
import pytest
from carillon_client import outbox as client
from psycopg import sql
from sqlalchemy import create_engine

from shared import db
from shared.embedded import EmbeddedPostgres
from tests.outboxes import NAME, Producer, dumped, make, relay_once, setting, waiting, write
from tests.producers import TENANT, envelope
from tests.programs import carillon


def test_the_grants_that_are_printed_are_all_that_producer_and_relay_need(
    postgres: EmbeddedPostgres, producer: Producer, producer_url: str, settings_env: dict[str, str]
) -> None:
    name = producer_url.rpartition("/")[2]
    app, reader = f"app_{name}", f"relay-{name}"
    printed = carillon(settings_env, "outbox", "sql", "--producer", app, "--relay", reader)
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
        ended = carillon({**settings_env, "CARILLON_OUTBOXES": told}, "relay")
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
    told = orjson.loads(carillon(settings_env, "outbox", "status", "--json").stdout)[NAME]
    assert (told["waiting"], told["refused"], told["oldestSeconds"] >= 3_600) == (1, 2, True)
    shown = carillon(settings_env, "outbox", "refused", NAME).stdout
    assert "type is not an event type of the catalog" in shown
    found = orjson.loads(carillon(settings_env, "doctor", "--json").stdout)["findings"]
    levels = {each["check"]: each["level"] for each in found if each["check"].startswith("outbox")}
    assert levels == {"outbox": "failure", "outbox_refused": "warning"}
    assert carillon(settings_env, "outbox", "retry", NAME, "--all").stdout == "2 events will be taken again.\n"
    assert waiting(producer) == [1, 2, 3]
    again = carillon(settings_env, "outbox", "retry", NAME, "1")
    assert (again.returncode, again.stderr) == (1, "No refused event has such a position.\n")
