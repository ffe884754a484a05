"""What an outbox has and Carillon does not take: set aside with its reason, keeping nobody waiting."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg
import pytest

from shared import db, directory
from tests.outboxes import NAME, Producer, dumped, events, make, refusals, relay_once, setting, waiting, write
from tests.producers import envelope
from tests.programs import carillon

DATA = {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"}


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
        carillon(settings_env, "outbox", "retry", NAME, "1")
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
