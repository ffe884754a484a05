"""What the stream is opened with: places, wishes and credentials that nobody gave out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks.harness import PAGE, STREAM, Case, Target, ask

INVALID = (422, "invalid-input")
NO = (401, "unauthenticated")
ALIAS = f"{PAGE}/subscribe"
STARTED = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store, no-transform"}


def opened(query: str = "", **headers: Any) -> Any:
    return ask("GET", f"{STREAM}{query}", authorization=lambda target: target.bearer(sub="listener"), **headers)


def stream(name: str, request: Any) -> Case:
    return Case(name, request, 200, None, has=dict(STARTED))


PLACES = [
    stream("a place that is none", opened(last_event_id="nonsense")),
    stream("a place of another numbering", opened(last_event_id="999-1")),
    stream("a place in the future", opened(last_event_id="1-9223372036854775807")),
    stream("a place beyond 64 bits", opened(last_event_id="1-99999999999999999999")),
    stream("a place before the first", opened(last_event_id="1--1")),
    stream("a place that is SQL", opened(last_event_id="1-1'; DROP TABLE inboxes; --")),
    stream("a place of 8,000 digits", opened(last_event_id="1-" + "9" * 8_000)),
    stream("a place that ends a line in the address", opened("?lastEventId=1-1%0aevent:%20notification")),
    stream("a place that is NUL", opened("?lastEventId=%00")),
    stream("a role in the address", opened("?role=super_admin")),
    stream("another recipient in the address", opened("?recipient=r0&tenant=south&sub=r0")),
    stream("an answer asked for as JSON", opened(accept="application/json")),
    stream("a part of the stream", opened(range="bytes=0-10")),
    stream("a compressed stream", opened(accept_encoding="gzip, br")),
]
WISHES = [
    *(Case(f"a first page of {many}", opened(f"?snapshot={many}"), *INVALID)
      for many in ("0", "-1", "101", "many", "1e1", "", "%D9%A1", "99999999999999999999")),
    *(Case(f"a client called {name}", opened(f"?client={name}"), *INVALID) for name in ("", "x", "../x", "%00")),
    Case("a token in the address", ask("GET", lambda target: f"{STREAM}?token={target.token()}"), *NO),
    Case("a ticket of nobody's", ask("GET", f"{STREAM}?ticket=x"), *NO),
    Case("a ticket that is a key of Redis", ask("GET", f"{ALIAS}?ticket=*"), *NO),
    Case("a ticket of 8,000 characters", ask("GET", f"{STREAM}?ticket=" + "a" * 8_000), *NO),
    Case("a ticket twice, the last of nobody's",
         ask("GET", lambda target: f"{STREAM}?ticket={target.ticket()}&ticket=x"), *NO),
    Case("a wrong token beside a right ticket",
         ask("GET", lambda target: f"{STREAM}?ticket={target.ticket()}", authorization="Bearer x"), *NO),
    *(Case(f"{method} of the stream", ask(method, STREAM, authorization=lambda target: target.bearer()), 405,
           "about:blank") for method in ("POST", "PUT", "DELETE")),
    Case("a ticket for somebody without a token", ask("POST", f"{STREAM}/tickets"), *NO),
]  # fmt: skip


@pytest.mark.parametrize("case", [*PLACES, *WISHES], ids=str)
def test_streams(target: Target, case: Case) -> None:
    target.judge(case)
