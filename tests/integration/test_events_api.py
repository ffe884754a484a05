"""Posting events: the three modes, idempotency, and every refusal with nothing stored."""

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

from api.events import MAX_BATCH_BYTES
from shared import db, keys
from shared.settings import settings
from tests.producers import (
    BATCHED,
    STRUCTURED,
    TENANT,
    bearer,
    counted_statements,
    envelope,
    make_key,
    post,
    rows,
    stored,
)

ACCEPTED = {"events": [{"id": "e1", "status": "accepted"}]}
DUPLICATE = {"events": [{"id": "e1", "status": "duplicate"}]}
DATA = {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"}


def _errors(answer: httpx.Response) -> list[tuple[Any, ...]]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], *(body[name] != "" for name in ("type", "title", "detail"))) == (
        answer.status_code, True, True, True,
    )  # fmt: skip
    return [tuple(error[name] for name in ("index", "field", "message") if name in error) for error in body["errors"]]


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
    assert _errors(answer) == [(0, "id", "was posted before with other content")]
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
    assert _errors(answer) == [(2, "id", "was posted before with other content")]
    assert stored(database_url) == 0


async def test_a_batch_with_one_conflict_stores_nothing_of_it(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    await post(api, key, envelope("known"))
    answer = await post(api, key, [envelope("new"), envelope("known", subject="x")], BATCHED)
    assert answer.status_code == 409
    assert _errors(answer) == [(1, "id", "was posted before with other content")]
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


# --- what is refused, with nothing stored ---


WRONG: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"specversion": "0.3"}, [("specversion", 'must be "1.0"')]),
    ({"specversion": None}, [("specversion", "is required")]),
    ({"id": None}, [("id", "is required")]),
    ({"id": ""}, [("id", "must be a text of 1 to 200 printable characters")]),
    ({"id": "x" * 201}, [("id", "must be a text of 1 to 200 printable characters")]),
    ({"id": 7}, [("id", "must be a text of 1 to 200 printable characters")]),
    ({"source": None}, [("source", "is required")]),
    ({"source": "not a uri"}, [("source", "must be a URI reference (RFC 3986)")]),
    ({"type": "no.such"}, [("type", "is not an event type of the catalog")]),
    ({"type": None}, [("type", "is required")]),
    ({"tenant": None}, [("tenant", "is required")]),
    ({"subject": ""}, [("subject", "must be a text of 1 to 500 printable characters")]),
    ({"time": "yesterday"}, [("time", "must be a time as RFC 3339 writes it: 2026-03-01T12:00:00Z")]),
    ({"time": "2026-02-30T12:00:00Z"}, [("time", "must be a time as RFC 3339 writes it: 2026-03-01T12:00:00Z")]),
    ({"time": 1}, [("time", "must be a time as RFC 3339 writes it: 2026-03-01T12:00:00Z")]),
    ({"dataschema": "/relative"}, [("dataschema", "must be a URI (RFC 3986) of at most 500 characters")]),
    ({"datacontenttype": "text/xml"}, [("datacontenttype", "must be application/json")]),
    ({"data_base64": "aGk="}, [("data_base64", "is not accepted: send the data as JSON")]),
    ({"Tenant": "x"}, [("Tenant", "is no attribute: those have 1 to 20 lower-case letters and digits")]),
    ({"x": {"y": 1}}, [("x", "must be a text, a whole number, true or false")]),
    ({"traceparent": "zz"}, [("traceparent", "must be a W3C trace parent")]),
    ({"data": []}, [("data", "must be an object")]),
    (
        {"data": None},
        [
            ("data.achievement_id", "is required"),
            ("data.student_id", "is required"),
            ("data.title", "is required"),
        ],
    ),
    (
        {"data": {**DATA, "title": 7, "student_id": "", "colour": "red"}},
        [
            ("data.colour", "is not a field of this type"),
            ("data.student_id", "must have at least 1 characters"),
            ("data.title", "must be a string"),
        ],
    ),
]


async def test_each_wrong_field_is_named_and_nothing_is_stored(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    for change, errors in WRONG:
        answer = await post(api, key, envelope(**change))
        assert (change, answer.status_code, _errors(answer)) == (change, 422, errors)
    assert stored(database_url) == 0


async def test_a_batch_with_wrong_events_stores_nothing_and_names_their_indexes(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    batch = [envelope("a"), envelope("b", type="no.such"), 7, envelope("c", data={**DATA, "title": 7})]
    answer = await post(api, key, batch, BATCHED)
    assert (answer.status_code, stored(database_url)) == (422, 0)
    assert _errors(answer) == [
        (1, "type", "is not an event type of the catalog"),
        (2, "", "must be an object"),
        (3, "data.title", "must be a string"),
    ]


async def test_an_unknown_tenant_is_named_and_nothing_is_stored(api: httpx.AsyncClient, database_url: str) -> None:
    key = make_key(None)
    make_key([TENANT])
    alone = await post(api, key, envelope(tenant="nowhere"))
    batch = await post(api, key, [envelope("a"), envelope("b", tenant="nowhere")], BATCHED)
    assert (alone.status_code, batch.status_code, stored(database_url)) == (422, 422, 0)
    assert _errors(batch) == [(1, "tenant", "is not a known tenant")]


INDECENT: list[tuple[bytes, int, list[tuple[str, str]] | None]] = [
    (b"{", 400, None),
    (b"\xff", 400, None),
    (b"", 400, None),
    (b'{"id": NaN}', 400, None),
    (b"[]", 422, [("", "must be an object")]),
    (b'{"id": "a", "id": "b"}', 422, [("id", "stands twice in one object")]),
    (b'{"data": {"title": "a\\u0000b"}}', 422, [("data.title", "contains a character that is not allowed")]),
    (b'{"data": {"title": "\\ud800"}}', 422, [("data.title", "contains a character that is not allowed")]),
    (b'{"data": {"total": 9223372036854775808}}', 422, [("data.total", "is a number out of range")]),
    (b'{"data": ' + b"[" * 2_000 + b"]" * 2_000 + b"}", 422, [("", "is nested deeper than 32 levels")]),
]


async def test_what_is_no_decent_json_is_refused_at_the_door(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    for body, status, errors in INDECENT:
        answer = await post(api, key, body)
        assert (body, answer.status_code) == (body, status)
        assert errors is None or _errors(answer) == errors
    assert stored(database_url) == 0


async def test_a_wrong_content_type_is_415(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    for kind in ("application/json", "text/plain", "", "application/cloudevents+xml", "multipart/form-data"):
        assert (kind, (await post(api, key, envelope(), kind)).status_code) == (kind, 415)
    assert stored(database_url) == 0


async def test_data_that_is_not_json_in_binary_mode_is_415(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    headers = {f"ce-{name}": value for name, value in envelope().items() if name != "data"}
    answer = await api.post(
        "/api/events", content=b"<a/>", headers={**headers, "content-type": "text/xml", **bearer(key)}
    )
    assert (answer.status_code, stored(database_url)) == (415, 0)


async def test_a_compressed_body_is_415(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    headers = {**bearer(key), "content-type": STRUCTURED, "content-encoding": "gzip"}
    answer = await api.post("/api/events", content=b"\x1f\x8b", headers=headers)
    assert (answer.status_code, stored(database_url)) == (415, 0)


async def test_a_header_that_does_not_decode_is_named(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    headers = {f"ce-{name}": value for name, value in envelope(subject="%FF").items() if name != "data"}
    answer = await api.post("/api/events", json=DATA, headers={**headers, **bearer(key)})
    assert (answer.status_code, stored(database_url)) == (422, 0)
    assert _errors(answer) == [("subject", "is not percent-encoded UTF-8")]


async def test_an_event_of_64_kib_is_taken_and_one_byte_more_is_not(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    most = settings().event_max_bytes
    body = json.dumps(envelope()).encode()
    fits = await post(api, key, body + b" " * (most - len(body)))
    too_large = await post(api, key, body + b" " * (most - len(body) + 1))
    assert (fits.status_code, too_large.status_code) == (202, 413)
    assert too_large.json()["detail"] == "The body is larger than 65536 bytes."
    assert stored(database_url) == 1


async def test_a_body_of_unknown_length_is_cut_off_at_the_bound(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 100 * settings().event_max_bytes:
            sent += 16_384
            yield b" " * 16_384

    answer = await api.post("/api/events", content=endless(), headers={**bearer(key), "content-type": STRUCTURED})
    assert (answer.status_code, stored(database_url)) == (413, 0)
    assert sent <= 2 * settings().event_max_bytes


async def test_a_batch_with_one_event_too_large_names_it(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    large = envelope("b", data={**DATA, "title": "x" * settings().event_max_bytes})
    answer = await post(api, key, [envelope("a"), large], BATCHED)
    assert (answer.status_code, stored(database_url)) == (413, 0)
    assert _errors(answer) == [(1, "", "is larger than 65536 bytes")]


async def test_a_batch_body_over_16_mib_is_413(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    answer = await post(api, key, b" " * (MAX_BATCH_BYTES + 1), BATCHED)
    assert (answer.status_code, stored(database_url)) == (413, 0)


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_batch_has_1_to_1000_events(api: httpx.AsyncClient, key: str, database_url: str, count: int) -> None:
    answer = await post(api, key, [envelope(f"e{number}") for number in range(count)], BATCHED)
    assert (answer.status_code, stored(database_url)) == (422, 0)
    assert _errors(answer) == [("events", "must have 1 to 1,000 events")]


async def test_a_hundred_and_one_named_recipients_are_refused_whatever_the_field(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    data = {
        "repository": "a/b", "thread": "a/b#1", "thread_name": "a/b#1", "thread_kind": "issue", "thread_title": "T",
        "actor_id": "x", "mentioned_ids": [f"m{n}" for n in range(60)], "participant_ids": [f"p{n}" for n in range(41)],
    }  # fmt: skip
    answer = await post(api, key, envelope(type="github.commented", data=data))
    assert (answer.status_code, stored(database_url)) == (422, 0)
    assert _errors(answer) == [("data.participant_ids", "the event names more than 100 recipients")]


# --- keys ---


async def test_without_a_valid_key_the_answer_is_401(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    unknown, forged = f"ck_{'0' * 16}_{'A' * 43}", key[:-43] + make_key()[-43:]
    for given in (None, "Bearer nonsense", "Basic eDp5", f"Bearer {unknown}", f"Bearer {forged}"):
        headers = {"content-type": STRUCTURED, **({"authorization": given} if given else {})}
        answer = await api.post("/api/events", json=envelope(), headers=headers)
        assert (given, answer.status_code, answer.headers["www-authenticate"]) == (given, 401, "Bearer")
    assert stored(database_url) == 0


async def test_a_key_without_the_scope_is_403(api: httpx.AsyncClient, database_url: str) -> None:
    answer = await post(api, make_key(scopes=["directory:write", "ops:read"]), envelope())
    assert (answer.status_code, stored(database_url)) == (403, 0)


async def test_a_key_of_another_tenant_is_403(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    make_key(["other"])
    answer = await post(api, key, [envelope("a"), envelope("b", tenant="other")], BATCHED)
    assert (answer.status_code, stored(database_url)) == (403, 0)
    assert _errors(answer) == [(1, "tenant", "is not one that this key may use")]


async def test_a_revoked_key_is_refused_once_it_is_forgotten(
    configured: dict[str, str], api: httpx.AsyncClient, key: str
) -> None:
    assert (await post(api, key, envelope())).status_code == 202
    with db.transaction() as connection:
        assert keys.revoke_key(connection, keys.prefix_of(key))
        assert not keys.revoke_key(connection, keys.prefix_of(key))
    app = api._transport.app  # type: ignore[attr-defined]
    app.state.verifier.forget()
    assert (await post(api, key, envelope())).status_code == 401


async def test_a_key_is_stored_as_a_hash_and_its_use_is_noted(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    await post(api, key, envelope())
    ((prefix, secret_hash, used),) = rows(
        database_url, "SELECT prefix, secret_hash, last_used_at IS NOT NULL FROM producer_keys"
    )
    assert (prefix, len(secret_hash), used) == (keys.prefix_of(key), 32, True)
    assert rows(database_url, "SELECT count(*) FROM producer_keys p WHERE p::text LIKE %s", f"%{key[-43:]}%") == [(0,)]


async def test_only_a_key_with_directory_write_registers_whom_an_event_names(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    await post(api, key, envelope("plain"))
    await post(api, make_key(scopes=["events:write", "directory:write"]), envelope("registering"))
    assert rows(database_url, "SELECT id, registers FROM events ORDER BY id") == [
        ("plain", False), ("registering", True),
    ]  # fmt: skip


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
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
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
