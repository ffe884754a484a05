"""Posting events: every refusal with its exact answer, and nothing stored."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from api.events import MAX_BATCH_BYTES
from shared import db, key_store, keys
from shared.settings import settings
from tests.producers import (
    BATCHED,
    STRUCTURED,
    TENANT,
    bearer,
    envelope,
    errors_of,
    make_key,
    post,
    rows,
    stored,
)

DATA = {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"}


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
    ({"traceparent": 7}, [("traceparent", "must be a W3C trace parent")]),
    ({"data": {**DATA, "student_id": "a\nb"}}, [("data.student_id", "must be printable characters")]),
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
        assert (change, answer.status_code, errors_of(answer)) == (change, 422, errors)
    assert stored(database_url) == 0


async def test_a_batch_with_wrong_events_stores_nothing_and_names_their_indexes(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    batch = [envelope("a"), envelope("b", type="no.such"), 7, envelope("c", data={**DATA, "title": 7})]
    answer = await post(api, key, batch, BATCHED)
    assert (answer.status_code, stored(database_url)) == (422, 0)
    assert errors_of(answer) == [
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
    assert errors_of(alone) == [("tenant", "is not a known tenant")]
    assert errors_of(batch) == [(1, "tenant", "is not a known tenant")]


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
        assert errors is None or errors_of(answer) == errors
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
    assert errors_of(answer) == [("subject", "is not percent-encoded UTF-8")]


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
    assert errors_of(answer) == [(1, "", "is larger than 65536 bytes")]


async def test_a_batch_body_over_16_mib_is_413(api: httpx.AsyncClient, key: str, database_url: str) -> None:
    answer = await post(api, key, b" " * (MAX_BATCH_BYTES + 1), BATCHED)
    assert (answer.status_code, stored(database_url)) == (413, 0)


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_batch_has_1_to_1000_events(api: httpx.AsyncClient, key: str, database_url: str, count: int) -> None:
    answer = await post(api, key, [envelope(f"e{number}") for number in range(count)], BATCHED)
    assert (answer.status_code, stored(database_url)) == (422, 0)
    assert errors_of(answer) == [("events", "must have 1 to 1,000 events")]


async def test_a_hundred_and_one_named_recipients_are_refused_whatever_the_field(
    api: httpx.AsyncClient, key: str, database_url: str
) -> None:
    data = {
        "repository": "a/b", "thread": "a/b#1", "thread_name": "a/b#1", "thread_kind": "issue", "thread_title": "T",
        "actor_id": "x", "mentioned_ids": [f"m{n}" for n in range(60)], "participant_ids": [f"p{n}" for n in range(41)],
    }  # fmt: skip
    answer = await post(api, key, envelope(type="github.commented", data=data))
    assert (answer.status_code, stored(database_url)) == (422, 0)
    assert errors_of(answer) == [("data.participant_ids", "the event names more than 100 recipients")]


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
    assert errors_of(answer) == [(1, "tenant", "is not one that this key may use")]


async def test_a_revoked_key_is_refused_once_it_is_forgotten(
    configured: dict[str, str], api: httpx.AsyncClient, key: str
) -> None:
    assert (await post(api, key, envelope())).status_code == 202
    with db.transaction("*") as connection:
        assert key_store.revoke_key(connection, keys.prefix_of(key))
        assert not key_store.revoke_key(connection, keys.prefix_of(key))
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
