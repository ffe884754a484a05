"""Bodies, parameters and addresses that readers of HTTP, JSON and SQL are known to disagree about."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.attacks.harness import COUNT, JSON, PAGE, Bytes, Case, Target, ask
from tests.attacks.test_authorisation import BOTH, DIRECTORY_KEY, EVENTS, STRUCTURED, posted, victims
from tests.writer import TENANT

INVALID = (422, "invalid-input")
MALFORMED = (400, "malformed-body")
TOO_LARGE = (413, "body-too-large")
WRONG_KIND = (415, "unsupported-content-type")
MISSING = (404, "not-found")
NOWHERE = (404, "about:blank")


def patch(body: bytes, kind: str = JSON, **headers: Any) -> Any:
    return ask("PATCH", victims, body, authorization=Target.bearer, content_type=kind, **headers)


BODIES = [
    Case("nothing", patch(b""), *MALFORMED),
    Case("half of an object", patch(b'{"read":'), *MALFORMED),
    Case("no UTF-8", patch(b'{"read":"\xff"}'), *MALFORMED),
    Case("UTF-16", patch('{"read":true}'.encode("utf-16")), *MALFORMED),
    Case("a byte order mark", patch(b'\xef\xbb\xbf{"read":true}'), *MALFORMED),
    Case("NaN", patch(b'{"read":NaN}'), *MALFORMED),
    Case("two objects", patch(b'{"read":true}{"read":false}'), *MALFORMED),
    Case("a comment", patch(b'{"read":true/**/}'), *MALFORMED),
    Case("a list", patch(b'[{"read":true}]'), *INVALID),
    Case("null", patch(b"null"), *INVALID),
    Case("a mark that is null", patch(b'{"read":null,"seen":true}'), *INVALID),
    Case("a text for a boolean", patch(b'{"read":"true"}'), *INVALID),
    Case("a number for a boolean", patch(b'{"read":1}'), *INVALID),
    Case("the same name twice", patch(b'{"read":true,"read":false}'), *INVALID),
    Case("a field of nobody's", patch(b'{"read":true,"recipient":"mallory"}'), *INVALID),
    Case("a prototype", patch(b'{"read":true,"__proto__":{"admin":true}}'), *INVALID),
    Case("NUL", patch(b'{"read":true,"a\\u0000b":1}'), *INVALID),
    Case("half a surrogate pair", patch(b'{"read":true,"\\ud800":1}'), *INVALID),
    Case("an integer of a thousand digits", patch(b'{"read":' + b"9" * 1_000 + b"}"), *INVALID),
    Case("1,500 brackets", patch(b"[" * 1_500), *INVALID),
    Case("a body beyond its bound", patch(b" " * 5_000 + b'{"read":true}'), *TOO_LARGE),
    Case("a form", patch(b"read=true", "application/x-www-form-urlencoded"), *WRONG_KIND),
    Case("a type that only looks like JSON", patch(b'{"read":true}', "application/jsonp"), *WRONG_KIND),
    Case("a compressed body", patch(gzip.compress(b'{"read":true}'), content_encoding="gzip"), *WRONG_KIND),
    Case("a cursor that is none", ask("PATCH", PAGE, b'{"read":true,"upTo":"1-2; DROP TABLE inboxes"}',
                                      authorization=Target.bearer, content_type=JSON), *INVALID),
    Case("a cursor of another numbering", ask("PATCH", PAGE, b'{"read":true,"upTo":"2-1"}', authorization=Target.bearer,
                                              content_type=JSON), 409, "conflict"),
]  # fmt: skip


def asked(path: str) -> Any:
    return ask("GET", path, authorization=Target.bearer)


PARAMETERS = [
    *(Case(f"the parameter {query}", asked(f"{PAGE}?{query}"), *INVALID)
      for query in ("first=0", "first=-1", "first=1e3", "first=1%00", "first=99999999999999999999", "after=o-1",
                    "after=' OR 1=1--", "type=GRADE_POSTED' OR '1'='1", "category[]=x&category=x", "priority=0",
                    "archived=2", "unread=", "metadata={}}", "metadata=null", 'metadata={"a":{"$gt":""}',
                    "metadata=%00", "createdFrom=now", "createdBefore=infinity", "createdFrom=2026-02-30T00:00:00Z")),
    *(Case(f"changes since {since}", asked(f"{PAGE}/changes?since={since}"), *INVALID)
      for since in ("", "1", "-1-2", "1-99999999999999999999", "1-2%0a", "%EF%BC%91-2")),
    Case("changes since nothing", asked(f"{PAGE}/changes"), *INVALID),
    *(Case(f"the id {id}", asked(f"{PAGE}/{id}"), *MISSING)
      for id in ("0", "%00", "%27%20OR%201=1--", "{id}", "a" * 1_000)),
    Case("an id that is a path", asked(f"{PAGE}/..%2f..%2fetc%2fpasswd"), *NOWHERE),
    Case("an address with a dot segment", asked("/api/notifications/%2e%2e/events"), *NOWHERE),
    Case("an address with two slashes", asked("//api/notifications"), *NOWHERE),
    Case("an address with a slash at its end", asked(f"{PAGE}/"), *NOWHERE),
    Case("a method of nobody's", ask("PUT", PAGE, b"{}", authorization=Target.bearer, content_type=JSON),
         405, "about:blank", has={"allow": "DELETE, GET, PATCH"}),
    Case("a header with a role", ask("GET", COUNT, authorization=Target.bearer, x_forwarded_user="root"), 200),
    Case("a role in the address", asked(f"{COUNT}?role=super_admin"), 200),
]  # fmt: skip


def put(body: bytes) -> Any:
    return ask("PUT", f"/api/recipients/{TENANT}/ann", body, authorization=DIRECTORY_KEY, content_type=JSON)


def deep(levels: int) -> bytes:
    return b'{"attributes":{"a":' + b"[" * levels + b"]" * levels + b"}}"


DIRECTORY = [
    Case("attributes nested beyond reading", put(deep(40)), *INVALID),
    Case("attributes of 1,001 keys", put(json.dumps({"attributes": dict.fromkeys(map(str, range(1_001)))}).encode()),
         *INVALID),
    Case("attributes of 17 KiB", put(json.dumps({"attributes": {"a": "x" * 17_000}}).encode()), *INVALID),
    Case("a body of 100 KiB", put(b'{"roles":["' + b"x" * 100_000 + b'"]}'), *TOO_LARGE),
    Case("a tenant in the body", put(b'{"tenant":"south"}'), *INVALID),
    Case("a locale that is a path", put(b'{"locale":"../../etc/passwd"}'), *INVALID),
    Case("a role of control characters", put(b'{"roles":["\\u001b[31m"]}'), *INVALID),
    Case("a name of control characters", ask("PUT", f"/api/recipients/{TENANT}/%0d%0aset-cookie", b"{}",
                                            authorization=DIRECTORY_KEY, content_type=JSON), *NOWHERE),
    Case("a name that is a dot segment", ask("GET", f"/api/recipients/{TENANT}/%2e%2e%2fann", authorization=BOTH),
         *MISSING),
]  # fmt: skip


def raw(*lines: str, body: bytes = b"") -> Bytes:
    return Bytes("\r\n".join([*lines, "host: x", "connection: close", "", ""]).encode("latin-1") + body)


EVENT_LINES = (f"POST {EVENTS} HTTP/1.1", f"content-type: {STRUCTURED}")
UNREADABLE = (400, "malformed-request")
FRAMING = [
    Case("two lengths", raw(*EVENT_LINES, "content-length: 5", "content-length: 50", body=b"12345"), *UNREADABLE),
    Case("a length and chunks",
         raw(*EVENT_LINES, "content-length: 5", "transfer-encoding: chunked", body=b"0\r\n\r\n"), *UNREADABLE),
    Case("a length that is negative", raw(*EVENT_LINES, "content-length: -1"), *UNREADABLE),
    Case("a length that is a word", raw(*EVENT_LINES, "content-length: many"), *UNREADABLE),
    Case("a header with a line's end", raw(f"GET {COUNT} HTTP/1.1", "x: a\rb"), *UNREADABLE),
    Case("a header with a NUL", raw(f"GET {COUNT} HTTP/1.1", "x: a\0b"), *UNREADABLE),
    Case("a header without a name", raw(f"GET {COUNT} HTTP/1.1", ": a"), *UNREADABLE),
    Case("a token of 100 KiB", raw(f"GET {COUNT} HTTP/1.1", "authorization: Bearer " + "a" * 100_000), 401,
         "unauthenticated"),
    Case("no HTTP", Bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n"), *UNREADABLE),
]  # fmt: skip
LARGE = Case(
    "an event of 65 KiB that tells no length",
    ask("POST", EVENTS, posted(TENANT)[:-1] + b" " * 66_000 + b"}", authorization=BOTH, content_type=STRUCTURED),
    *TOO_LARGE,
)


@pytest.mark.parametrize("case", BODIES, ids=str)
def test_bodies(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize("case", PARAMETERS, ids=str)
def test_parameters_and_addresses(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize("case", [*DIRECTORY, LARGE], ids=str)
def test_what_producers_tell_of_people(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize("case", FRAMING, ids=str)
def test_framing(target: Target, case: Case) -> None:
    target.judge(case)
