"""The directory: recipients, topics and tenants, one by one and in bulk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from api.rows import MAX_ROW_BYTES
from tests.producers import TENANT, bearer, counted_statements, make_key, rows

ANN = f"/api/recipients/{TENANT}/ann"
NDJSON = "application/x-ndjson"


@pytest.fixture
def headers(configured: dict[str, str]) -> dict[str, str]:
    """The key of a producer that may write the directory of `acme`."""
    return bearer(make_key(scopes=["directory:write"]))


async def _put(api: httpx.AsyncClient, headers: dict[str, str], path: str = ANN, **body: Any) -> httpx.Response:
    return await api.put(path, json=body, headers=headers)


def _errors(answer: httpx.Response) -> list[tuple[str, str]]:
    return [(error["field"], error["message"]) for error in answer.json()["errors"]]


# --- one recipient ---


async def test_a_recipient_is_registered_with_an_inbox_of_the_same_key(
    api: httpx.AsyncClient, headers: dict[str, str], database_url: str
) -> None:
    answer = await _put(api, headers, roles=["student", "agent", "student"], locale="pt-BR", attributes={"name": "Ann"})
    body = answer.json()
    assert (answer.status_code, body.pop("createdAt"), body["roles"]) == (
        201, body.pop("updatedAt"), ["agent", "student"],
    )  # fmt: skip
    assert body == {
        "tenant": TENANT, "id": "ann", "roles": ["agent", "student"], "locale": "pt-BR", "attributes": {"name": "Ann"},
    }  # fmt: skip
    assert rows(
        database_url,
        "SELECT i.tenant, i.recipient, i.seq, i.created, i.floor_seq FROM inboxes i JOIN recipients r USING (key)",
    ) == [(TENANT, "ann", 0, 0, 0)]
    read = (await api.get(ANN, headers=headers)).json()
    assert {**body, "createdAt": read["createdAt"], "updatedAt": read["updatedAt"]} == read


async def test_a_second_put_replaces_everything_and_keeps_the_key(
    api: httpx.AsyncClient, headers: dict[str, str], database_url: str
) -> None:
    await _put(api, headers, roles=["student"], locale="de", attributes={"a": 1})
    before = rows(database_url, "SELECT key FROM recipients")
    answer = await _put(api, headers, roles=["agent"])
    body = answer.json()
    assert (answer.status_code, body["roles"], body["locale"], body["attributes"]) == (200, ["agent"], "en", {})
    assert rows(database_url, "SELECT key FROM recipients") == before
    assert rows(database_url, "SELECT role FROM recipient_roles") == [("agent",)]


async def test_an_id_may_hold_slashes_and_spaces(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    path = f"/api/recipients/{TENANT}/a%2Fb%20c%2Fmembers%2Fd"
    assert (await _put(api, headers, path)).json()["id"] == "a/b c/members/d"
    assert (await api.get(path, headers=headers)).json()["id"] == "a/b c/members/d"
    assert (await api.get(f"/api/recipients/{TENANT}/a/b", headers=headers)).status_code == 404


WRONG: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"roles": "student"}, [("roles", "must be a list of at most 100 names")]),
    ({"roles": [""]}, [("roles", "must be a list of at most 100 names")]),
    ({"roles": [1]}, [("roles", "must be a list of at most 100 names")]),
    ({"roles": ["r"] * 101}, [("roles", "must be a list of at most 100 names")]),
    ({"locale": "e"}, [("locale", "must be a language tag such as en or pt-BR")]),
    ({"locale": None}, [("locale", "must be a language tag such as en or pt-BR")]),
    ({"attributes": []}, [("attributes", "must be an object")]),
    ({"attributes": {"a": "x" * 16_384}}, [("attributes", "must not be larger than 16384 bytes")]),
    ({"attributes": {"a": "\0"}}, [("attributes.a", "contains a character that is not allowed")]),
    ({"name": "Ann"}, [("name", "is not a field here")]),
    ({"id": "bob"}, [("id", "stands in the path")]),
]


async def test_each_wrong_field_is_named_and_nothing_is_stored(
    api: httpx.AsyncClient, headers: dict[str, str], database_url: str
) -> None:
    for body, errors in WRONG:
        answer = await _put(api, headers, **body)
        assert (body, answer.status_code, _errors(answer)) == (body, 422, errors)
    malformed = await api.put(ANN, content=b"{", headers={**headers, "content-type": "application/json"})
    listed = await api.put(ANN, json=[], headers=headers)
    typeless = await api.put(ANN, content=b"{}", headers=headers)
    large = await api.put(ANN, content=b" " * 100_000, headers={**headers, "content-type": "application/json"})
    assert [answer.status_code for answer in (malformed, listed, typeless, large)] == [400, 400, 415, 413]
    for path in (
        f"/api/recipients/{TENANT}/%00",
        f"/api/recipients/{TENANT}/%FF",
        f"/api/recipients/{TENANT}/{'x' * 201}",
    ):
        assert (await _put(api, headers, path)).status_code == 404
    assert rows(database_url, "SELECT count(*) FROM inboxes") == [(0,)]


async def test_who_may_write_the_directory(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    make_key(["other"])
    assert (await api.put(ANN, json={})).status_code == 401
    assert (await _put(api, bearer(make_key()))).status_code == 403
    foreign = await _put(api, headers, "/api/recipients/other/ann")
    assert (foreign.status_code, _errors(foreign)) == (403, [("tenant", "is not one that this key may use")])
    every = bearer(make_key(None, ["directory:write"]))
    assert (await _put(api, every, "/api/recipients/nowhere/ann")).status_code == 404
    assert (await _put(api, every)).status_code == 201


async def test_twenty_puts_of_one_recipient_at_once_make_one(
    api: httpx.AsyncClient, headers: dict[str, str], database_url: str
) -> None:
    async def put(turn: int) -> httpx.Response:
        # They wait for each other: on a busy machine the last one for longer than a lock is waited for.
        while (answer := await _put(api, headers, roles=[f"r{turn}"])).status_code == 503:
            assert "retry-after" in answer.headers
        return answer

    answers = await asyncio.gather(*map(put, range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert rows(database_url, "SELECT count(*) FROM inboxes") == [(1,)]


# --- deleting ---


async def test_deleting_a_recipient_removes_the_person_and_keeps_the_numbering(
    api: httpx.AsyncClient, headers: dict[str, str], database_url: str
) -> None:
    await _put(api, headers, roles=["student"], attributes={"name": "Ann"})
    await api.put(f"/api/topics/{TENANT}/t/members/ann", headers=headers)
    with psycopg.connect(database_url) as session:
        session.execute(
            "UPDATE inboxes SET seq = 5, created = 3, unread = 2, unseen = 1, total = 3;"
            "INSERT INTO notifications (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority, title,"
            " message, metadata, created_at) SELECT gen_random_uuid(), key, tenant, 1, n, n, n, 't', 1, 'a', 'b', '{}',"
            " now() FROM inboxes, generate_series(1, 3) n"
        )
    key = rows(database_url, "SELECT key FROM inboxes")
    answers = [await api.delete(ANN, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 404]
    for table in ("recipients", "recipient_roles", "topic_members", "notifications"):
        assert (table, rows(database_url, f"SELECT count(*) FROM {table}")) == (table, [(0,)])
    inbox = "SELECT key, seq, floor_seq, created, unread, unseen, total FROM inboxes"
    assert rows(database_url, inbox) == [(*key[0], 6, 6, 3, 0, 0, 0)]
    assert (await _put(api, headers)).status_code == 201
    assert rows(database_url, inbox) == [(*key[0], 6, 6, 3, 0, 0, 0)]


# --- topics ---


async def test_joining_and_leaving_a_topic_may_be_repeated(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    await _put(api, headers)
    topic = f"/api/topics/{TENANT}/ticket:1%2F2/members"
    for method, members in (("PUT", ["ann"]), ("PUT", ["ann"]), ("DELETE", []), ("DELETE", [])):
        answer = await api.request(method, f"{topic}/ann", headers=headers)
        told = (await api.get(topic, headers=headers)).json()
        assert (answer.status_code, told) == (204, {"members": members, "hasNextPage": False})


async def test_an_unknown_recipient_can_neither_join_nor_leave(
    api: httpx.AsyncClient, headers: dict[str, str], database_url: str
) -> None:
    for call in (api.put, api.delete):
        answer = await call(f"/api/topics/{TENANT}/t/members/nobody", headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such recipient.")
    assert rows(database_url, "SELECT count(*) FROM topic_members") == [(0,)]


async def test_a_topics_members_are_told_page_by_page(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    people = [{"tenant": TENANT, "id": f"p{number}"} for number in range(5)]
    await api.post("/api/recipients/bulk", json=people, headers=headers)
    joins = [{"tenant": TENANT, "topic": "t", "recipient": one["id"]} for one in people]
    joined = await api.post("/api/topics/bulk", json=joins, headers=headers)
    assert joined.json() == {"changed": 5, "unchanged": 0, "rejected": 0, "errors": []}
    first = (await api.get(f"/api/topics/{TENANT}/t/members?first=3", headers=headers)).json()
    second = (await api.get(f"/api/topics/{TENANT}/t/members?first=3&after=p2", headers=headers)).json()
    assert first == {"members": ["p0", "p1", "p2"], "hasNextPage": True}
    assert second == {"members": ["p3", "p4"], "hasNextPage": False}


async def test_topics_in_bulk_join_leave_and_tell_what_was_wrong(
    api: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await api.post("/api/recipients/bulk", json=[{"tenant": TENANT, "id": one} for one in "ab"], headers=headers)
    await api.put(f"/api/topics/{TENANT}/t/members/a", headers=headers)
    changes = [
        {"tenant": TENANT, "topic": "t", "recipient": "b"},
        {"tenant": TENANT, "topic": "t", "recipient": "a", "member": False},
        {"tenant": TENANT, "topic": "t", "recipient": "nobody"},
        {"tenant": "other", "topic": "t", "recipient": "a"},
        {"tenant": TENANT, "topic": "t", "recipient": "a", "member": 1},
        {"tenant": TENANT, "topic": "u", "recipient": "a", "member": False},
    ]
    answer = await api.post("/api/topics/bulk", json=changes, headers=headers)
    assert answer.json() == {
        "changed": 2, "unchanged": 1, "rejected": 3,
        "errors": [
            {"line": 3, "field": "recipient", "message": "is not known to the directory"},
            {"line": 4, "field": "tenant", "message": "is not one that this key may use"},
            {"line": 5, "field": "member", "message": "must be true or false"},
        ],
    }  # fmt: skip
    told = (await api.get(f"/api/topics/{TENANT}/t/members", headers=headers)).json()
    assert told["members"] == ["b"]


# --- tenants ---


async def test_only_a_key_for_every_tenant_makes_tenants(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    every = bearer(make_key(None, ["directory:write"]))
    answers = [await api.put("/api/tenants/new-one", headers=every) for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (201, {"id": "new-one"}), (200, {"id": "new-one"}),
    ]  # fmt: skip
    assert (await api.put("/api/tenants/mine", headers=headers)).status_code == 403
    wrong = await api.put("/api/tenants/not%20one", headers=every)
    assert (wrong.status_code, _errors(wrong)[0][0]) == (422, "tenant")


# --- bulk ---


async def _bulk(
    api: httpx.AsyncClient, headers: dict[str, str], content: Any, kind: str = NDJSON
) -> tuple[int, dict[str, Any]]:
    answer = await api.post("/api/recipients/bulk", content=content, headers={**headers, "content-type": kind})
    return answer.status_code, answer.json()


async def test_bulk_rows_are_stored_and_the_wrong_ones_told_by_their_line(
    api: httpx.AsyncClient, headers: dict[str, str], database_url: str
) -> None:
    await _put(api, headers, roles=["student"])
    lines = [
        b'{"tenant": "acme", "id": "ann", "roles": ["agent"]}',
        b"",
        b'{"tenant": "acme", "id": "bob", "locale": "de", "attributes": {"n": 1}}\r',
        b'{"tenant": "other", "id": "cid"}',
        b"{nonsense",
        b'{"tenant": "acme", "id": ""}',
        b'{"tenant": "acme", "id": "dan", "extra": 1}',
        b'{"id": "x", "id": "y", "tenant": "acme"}',
        b"[" * 5_000,
        b'"' + b"x" * MAX_ROW_BYTES + b'"',
        b'{"tenant": "acme", "id": "bob", "locale": "fr"}',
    ]
    status, told = await _bulk(api, headers, b"\n".join(lines))
    name = "must be a text of 1 to 200 printable characters"
    assert status == 200
    assert [(error["line"], error["field"], error["message"]) for error in told.pop("errors")] == [
        (4, "tenant", "is not one that this key may use"),
        (5, "", "is not valid JSON: expecting property name enclosed in double quotes at line 1, column 2"),
        (6, "id", name),
        (7, "extra", "is not a field here"),
        (8, "id", "stands twice in one object"),
        (9, "", "is nested deeper than 32 levels"),
        (10, "", "is longer than 65536 bytes"),
    ]
    assert told == {"created": 1, "updated": 2, "rejected": 7}
    stored = "SELECT r.id, r.locale, o.role FROM recipients r LEFT JOIN recipient_roles o USING (key) ORDER BY 1"
    assert rows(database_url, stored) == [("ann", "en", "agent"), ("bob", "fr", None)]


async def test_an_unknown_tenant_rejects_its_rows_alone(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    every = bearer(make_key(None, ["directory:write"]))
    lines = b'{"tenant": "nowhere", "id": "a"}\n{"tenant": "acme", "id": "a"}\n'
    assert await _bulk(api, every, lines) == (
        200,
        {
            "created": 1, "updated": 0, "rejected": 1,
            "errors": [{"line": 1, "field": "tenant", "message": "is not a known tenant"}],
        },
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_an_array_is_read_whatever_the_pieces_it_arrives_in(
    api: httpx.AsyncClient, headers: dict[str, str], size: int
) -> None:
    people = [{"tenant": TENANT, "id": f"é{number}", "attributes": {"a": '],}{["\\'}} for number in range(20)]
    body = json.dumps([*people, 7], ensure_ascii=False, indent=1).encode()

    async def arriving() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    assert await _bulk(api, headers, arriving(), "application/json") == (
        200,
        {
            "created": 20, "updated": 0, "rejected": 1,
            "errors": [{"line": 21, "field": "", "message": "must be an object"}],
        },
    )  # fmt: skip


async def test_an_array_that_breaks_off_is_400_with_the_rows_before_stored(
    api: httpx.AsyncClient, headers: dict[str, str], database_url: str
) -> None:
    row = b'{"tenant": "acme", "id": "%d"}'
    broken = {
        b"[" + row % 1 + b",": "breaks off after row 1",
        b"[" + row % 2 + b" " + row % 3: "is not valid JSON after row 1",
        b"[" + row % 4 + b"," + b"x" * (2 * MAX_ROW_BYTES): "has a row that is not valid JSON or longer",
        b"[" + row % 5 + b"] x": "is not valid JSON after row 1",
        b"[" + row % 6 + b",\xff]": "is not UTF-8 after row 0",
        b"{}": "is not valid JSON after row 0",
        b"": "breaks off after row 0",
    }
    for body, reason in broken.items():
        status, told = await _bulk(api, headers, body, "application/json")
        assert (body[:40], status, reason in told["detail"]) == (body[:40], 400, True)
    assert rows(database_url, "SELECT id FROM recipients ORDER BY id") == [("1",), ("2",), ("4",), ("5",)]
    assert await _bulk(api, headers, b"[]", "application/json") == (
        200, {"created": 0, "updated": 0, "rejected": 0, "errors": []},
    )  # fmt: skip


async def test_a_wrong_content_type_is_415(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await _bulk(api, headers, b"", "text/csv"))[0] == 415


async def test_a_thousand_rows_cost_four_statements_and_an_import_one_for_the_audit_log(
    api: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await _put(api, headers)
    people = [{"tenant": TENANT, "id": f"p{number}", "roles": ["student"]} for number in range(1_000)]
    with counted_statements() as seen:
        answer = await api.post("/api/recipients/bulk", json=people, headers=headers)
    assert (answer.json()["created"], len(seen)) == (1_000, 4 + 1)


async def test_twenty_thousand_recipients_are_imported_in_bounded_pieces(
    api: httpx.AsyncClient, headers: dict[str, str], database_url: str
) -> None:
    async def lines() -> AsyncIterator[bytes]:
        for start in range(0, 20_000, 500):
            yield b"".join(
                b'{"tenant":"acme","id":"person-%d","roles":["student","agent"],"attributes":{"name":"P"}}\n' % number
                for number in range(start, start + 500)
            )

    status, told = await _bulk(api, headers, lines())
    assert (status, told) == (200, {"created": 20_000, "updated": 0, "rejected": 0, "errors": []})
    assert rows(database_url, "SELECT count(*) FROM recipient_roles") == [(40_000,)]
