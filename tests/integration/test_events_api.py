"""Posting events: the three modes, idempotency, what it costs, and how far an event is."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from cloudevents.core.bindings import http as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tests.producers import (
    BATCHED,
    TENANT,
    bearer,
    counted_statements,
    envelope,
    errors_of,
    make_key,
    post,
    rows,
    stored,
)

ACCEPTED = {"events": [{"id": "e1", "status": "accepted"}]}
DUPLICATE = {"events": [{"id": "e1", "status": "duplicate"}]}
DATA = {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"}


# --- the three modes ---


async def test_a_structured_event_is_stored_before_it_is_answered(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    event = envelope(subject="ann", time="2026-03-01T12:00:00.5+02:00", traceparent=trace, anything="else")
    answer = await post(api, key, event)
    assert (answer.status_code, answer.json()) == (202, ACCEPTED)
    ((row),) = rows(
        database_url,
        "SELECT tenant, source, id, type, subject, time, data, state, registers, traceparent, occurred_at::text "
        "FROM events",
    )
    assert row == (
        TENANT, "/tests", "e1", "achievement.awarded", "ann", "2026-03-01T12:00:00.5+02:00", DATA, "accepted", False,
        trace, "2026-03-01 10:00:00.5+00",
    )  # fmt: skip


async def test_a_batch_is_answered_in_its_order(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    batch = [envelope(f"e{number}") for number in (3, 1, 2)]
    answer = await post(api, key, batch, BATCHED)
    told = [{"id": f"e{number}", "status": "accepted"} for number in (3, 1, 2)]
    assert (answer.status_code, answer.json(), stored(database_url)) == (202, {"events": told}, 3)


async def test_a_binary_event_has_its_attributes_percent_decoded(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    attributes = {name: value for name, value in envelope(subject="zoë & co").items() if name != "data"}
    headers = {f"ce-{name}": quote(value) for name, value in attributes.items()}
    headers |= {"content-type": "application/json; charset=utf-8", **bearer(key)}
    answer = await api.post("/api/events", content=json.dumps(DATA).encode(), headers=headers)
    assert (answer.status_code, answer.json()) == (202, ACCEPTED)
    assert rows(database_url, "SELECT subject, data FROM events") == [("zoë & co", DATA)]


@pytest.mark.parametrize("encode", [binding.to_structured, binding.to_binary])
async def test_what_the_cloudevents_package_encodes_is_understood(
    api: httpx.AsyncClient, key: str, database_url: str, encode: Any
) -> None:
    attributes = {name: value for name, value in envelope(subject="zoë").items() if name != "data"}
    message = encode(CloudEvent({**attributes, "datacontenttype": "application/json"}, DATA), JSONFormat())
    answer = await api.post("/api/events", content=message.body, headers={**message.headers, **bearer(key)})
    assert (answer.status_code, answer.json()) == (202, ACCEPTED)
    assert rows(database_url, "SELECT subject, data FROM events") == [("zoë", DATA)]


async def test_all_three_modes_say_the_same_event(api: httpx.AsyncClient, key: str) -> None:
    headers = {f"ce-{name}": value for name, value in envelope().items() if name != "data"}
    first = await api.post("/api/events", json=DATA, headers={**headers, **bearer(key)})
    second = await post(api, key, envelope(datacontenttype="application/json"))
    third = await post(api, key, [envelope()], BATCHED)
    assert [first.json(), second.json(), third.json()] == [ACCEPTED, DUPLICATE, DUPLICATE]


# --- idempotency ---


async def test_a_second_post_of_the_same_event_is_a_duplicate(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    first = await post(api, key, envelope())
    reordered = dict(reversed(list(envelope().items())))
    reordered["data"] = dict(reversed(list(DATA.items())))
    second = await post(api, key, json.dumps(reordered, indent=4).encode())
    assert [first.json(), second.json()] == [ACCEPTED, DUPLICATE]
    assert (second.status_code, stored(database_url)) == (202, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "ann"},
        {"time": "2026-03-01T12:00:00Z"},
        {"dataschema": "https://example.org/s"},
        {"type": "certificate.verified", "data": {"student_id": "a", "certificate_id": "c", "badge_title": "t"}},
        {"data": {**DATA, "title": "Second steps"}},
    ],
)
async def test_other_content_under_the_same_id_is_a_conflict(
    api: httpx.AsyncClient, key: str, database_url: str, change: dict[str, Any]
) -> None:
    await post(api, key, envelope())
    answer = await post(api, key, envelope(**change))
    assert answer.status_code == 409
    assert errors_of(answer) == [("id", "was posted before with other content")]
    assert stored(database_url) == 1


async def test_another_source_or_tenant_makes_another_event(api: httpx.AsyncClient, database_url: str) -> None:
    key = make_key([TENANT, "other"])
    batch = [envelope(), envelope(source="/else"), envelope(tenant="other")]
    answer = await post(api, key, batch, BATCHED)
    assert [event["status"] for event in answer.json()["events"]] == ["accepted"] * 3
    assert stored(database_url) == 3


async def test_an_event_twice_in_one_batch_is_stored_once(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    answer = await post(api, key, [envelope("a"), envelope("b"), envelope("a")], BATCHED)
    assert [event["status"] for event in answer.json()["events"]] == ["accepted", "accepted", "duplicate"]
    assert stored(database_url) == 2


async def test_two_contents_of_one_id_in_a_batch_store_nothing(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    answer = await post(api, key, [envelope("b"), envelope("a"), envelope("a", subject="x")], BATCHED)
    assert answer.status_code == 409
    assert errors_of(answer) == [(2, "id", "was posted before with other content")]
    assert stored(database_url) == 0


async def test_a_batch_with_one_conflict_stores_nothing_of_it(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    await post(api, key, envelope("known"))
    answer = await post(api, key, [envelope("new"), envelope("known", subject="x")], BATCHED)
    assert answer.status_code == 409
    assert errors_of(answer) == [(1, "id", "was posted before with other content")]
    assert rows(database_url, "SELECT id FROM events") == [("known",)]


async def test_twenty_posts_of_one_event_at_once_accept_it_once(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    answers = await asyncio.gather(*(post(api, key, envelope()) for _ in range(20)))
    statuses = [answer.json()["events"][0]["status"] for answer in answers]
    assert (statuses.count("accepted"), statuses.count("duplicate"), stored(database_url)) == (1, 19, 1)


async def test_overlapping_batches_in_opposite_orders_never_deadlock(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    batch = [envelope(f"e{number}") for number in range(200)]
    answers = await asyncio.gather(*(post(api, key, batch if turn % 2 else batch[::-1], BATCHED) for turn in range(6)))
    accepted = [event["status"] for answer in answers for event in answer.json()["events"]].count("accepted")
    assert ({answer.status_code for answer in answers}, accepted, stored(database_url)) == ({202}, 200, 200)


async def test_long_integers_that_doubles_confuse_are_told_apart(api: httpx.AsyncClient, key: str) -> None:
    def payment(amount: int) -> bytes:
        data = {"job_id": "j", "job_name": "n", "total": amount, "succeeded": 0}
        return json.dumps(envelope(type="batch_job.completed", data=data)).encode()

    first = await post(api, key, payment(2**53))
    second = await post(api, key, payment(2**53))
    third = await post(api, key, payment(2**53 + 1))
    assert [first.status_code, second.json(), third.status_code] == [202, DUPLICATE, 409]


# --- cost ---


async def test_a_thousand_new_events_cost_one_statement_and_a_thousand_known_ones_two(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    await post(api, key, envelope("warm"))
    batch = [envelope(f"e{number}") for number in range(1_000)]
    with counted_statements() as new:
        first = await post(api, key, batch, BATCHED)
    with counted_statements() as known:
        second = await post(api, key, batch, BATCHED)
    assert ({event["status"] for event in first.json()["events"]}, len(new)) == ({"accepted"}, 1)
    assert ({event["status"] for event in second.json()["events"]}, len(known)) == ({"duplicate"}, 2)
    assert stored(database_url) == 1_001


# --- durability ---


async def test_without_the_database_the_answer_is_503_with_retry_after(
    configured: dict[str, str], api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    await post(api, key, envelope("before"))
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute("SET lock_timeout = '10s'")
        with session.transaction():
            session.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            answer = await post(api, key, envelope("during"))
    assert answer.status_code == 503
    assert answer.headers.get("retry-after") == "1"
    assert rows(database_url, "SELECT id FROM events") == [("before",)]


# --- how far an event is ---


def _where(id: str = "e1") -> str:
    return f"/api/events/{quote(id, safe='')}?source=/tests&tenant={TENANT}"


NO_COUNTS = {"recipients": 0, "notifications": 0, "published": 0, "seen": 0, "read": 0}


async def test_an_accepted_event_is_told_with_its_state_and_counts(api: httpx.AsyncClient, key: str) -> None:
    await post(api, key, envelope("a/b c"))
    answer = await api.get(_where("a/b c"), headers=bearer(key))
    body = answer.json()
    assert (answer.status_code, body.pop("acceptedAt")[-1]) == (200, "Z")
    assert body == {
        "tenant": TENANT, "source": "/tests", "id": "a/b c", "type": "achievement.awarded", "state": "accepted",
        "counts": NO_COUNTS, "finishedAt": None, "error": None,
    }  # fmt: skip


async def test_an_unknown_event_is_404_and_a_foreign_tenant_403(api: httpx.AsyncClient, key: str) -> None:
    for call in (api.get, api.delete):
        assert (await call(_where("nobody"), headers=bearer(key))).status_code == 404
        assert (await call("/api/events/e1?source=/tests&tenant=platform", headers=bearer(key))).status_code == 403
        assert (await call("/api/events/e1?source=/tests", headers=bearer(key))).status_code == 422
        assert (await call("/api/events/%00?source=/tests&tenant=acme", headers=bearer(key))).status_code == 422


async def test_counts_sum_the_chunks_and_tell_seen_and_read_as_of_now(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    await post(api, key, envelope())
    with psycopg.connect(database_url) as session:
        session.execute(
            "UPDATE events SET state = 'fanning_out';"
            "INSERT INTO fan_out_chunks (event_key, number, after_key, up_to_key, state, recipients, notifications,"
            " published) SELECT key, n, 0, 0, 'done', 10 * n, 9 * n, 8 * n FROM events, generate_series(1, 3) n;"
            "INSERT INTO notifications (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority, title,"
            " message, metadata, created_at, seen_at, read_at)"
            " SELECT (lpad(to_hex((extract(epoch FROM e.accepted_at) * 1000)::bigint), 12, '0') || '8'"
            " || substr(md5(n::text), 1, 3) || 'a' || substr(md5(n::text), 4, 15))::uuid, n, e.tenant,"
            " e.key + CASE WHEN n > 7 THEN 1 ELSE 0 END, 1, 1, 1, e.type, 1, '', '', '{}', now(),"
            " CASE WHEN n > 2 THEN now() END, CASE WHEN n > 4 THEN now() END FROM events e, generate_series(1, 9) n"
        )
    body = (await api.get(_where(), headers=bearer(key))).json()
    counts = {"recipients": 60, "notifications": 54, "published": 48, "seen": 5, "read": 3}
    assert (body["state"], body["counts"]) == ("fanning_out", counts)


async def test_a_failed_event_says_why(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    await post(api, key, envelope())
    reason = "Its fan-out ended with its worker process 5 times."
    with psycopg.connect(database_url) as session:
        session.execute("UPDATE events SET state = 'failed', attempts = 5, error = %s", [reason])
    body = (await api.get(_where(), headers=bearer(key))).json()
    assert (body["state"], body["error"]) == ("failed", reason)


async def test_an_event_can_be_cancelled_in_every_state(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    for state in ("accepted", "fanning_out", "done", "failed"):
        await post(api, key, envelope(state))
        with psycopg.connect(database_url) as session:
            session.execute("UPDATE events SET state = %s WHERE id = %s", (state, state))
        answer = await api.delete(_where(state), headers=bearer(key))
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")


async def test_cancelling_is_202_then_200_and_the_event_stays_a_duplicate(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    await post(api, key, envelope())
    answers = [await api.delete(_where(), headers=bearer(key)) for _ in range(2)]
    assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [
        (202, "cancelling"), (200, "cancelling"),
    ]  # fmt: skip
    with psycopg.connect(database_url) as session:
        session.execute("UPDATE events SET state = 'cancelled'")
    again = await api.delete(_where(), headers=bearer(key))
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    assert (await post(api, key, envelope())).json() == DUPLICATE
