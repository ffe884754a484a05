"""Events of every type, mutated, in all three modes: each is fit to be stored and told, or a named refusal."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from api.events import _from_batch, _from_binary, _from_structured, attributes_of
from shared import events
from shared.catalog import catalog
from shared.cloudevent import Event
from shared.errors import CarillonError

HOSTILE = st.sampled_from(
    ["", " ", "\0", "\n", "\x85", "\ud800", "\u202e", "a" * 201, "..", "%00", "1e999", "NaN", "platform", "__proto__",
     "{{ 7*7 }}", "javascript:alert(1)", "//evil.example", "2026-13-01T00:00:00Z", "é" * 200, "\U0010ffff"]
)  # fmt: skip
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | HOSTILE, inner, max_size=3),
    max_leaves=6,
)


def valid(kind: str, id: str = "e1") -> dict[str, Any]:
    found = catalog().get(kind)
    assert found is not None
    told = {"specversion": "1.0", "id": id, "source": "/fuzz", "type": kind, "tenant": "acme"}
    return {**told, "time": "2026-03-01T12:00:00Z", "subject": "s", "data": copy.deepcopy(found.example)}


kinds = st.sampled_from(sorted(catalog().types))


@st.composite
def mutated(draw: Callable[[Any], Any]) -> dict[str, Any]:
    """A valid event in which up to three attributes or data fields were replaced, taken away or added."""
    event = valid(draw(kinds))
    for _ in range(draw(st.integers(0, 3))):
        place = event if draw(st.booleans()) or not isinstance(event.get("data"), dict) else event["data"]
        name = draw(st.sampled_from(sorted(map(str, place))) | st.text(max_size=8) | HOSTILE) if place else "a"
        if draw(st.booleans()):
            place[name] = draw(values)
        else:
            place.pop(name, None)
    return event


def judge(read: Callable[[], list[Event]]) -> list[Event]:
    """Return the events, fit to be stored, told and compared; none where they were refused by name."""
    try:
        found = read()
        posting = events.posting_of(found)
    except CarillonError as error:
        refused = error
    else:
        assert len(posting.events) == len(found)
        return [*map(storable, found)]
    told = orjson.loads(orjson.dumps(refused.as_json()))
    # 409: a batch may name one id twice, with other content.
    assert told["status"] in (400, 409, 413, 422)
    return []


def storable(event: Event) -> Event:
    """Return the event, having looked that PostgreSQL, a frame and a path can hold it."""
    assert "\\u0000" not in orjson.dumps(event.data).decode()
    assert all(str(part).isprintable() for part in event.key)
    return event


@given(mutated())
def test_a_structured_event_is_stored_or_refused(event: dict[str, Any]) -> None:
    body = json.dumps(event).encode("utf-8", "surrogatepass")
    for found in judge(lambda: _from_structured(body)):
        assert (found.id, found.data) == (event["id"], event.get("data", {}))
        assert judge(lambda: _from_structured(body)) == [found]


@given(st.lists(mutated(), max_size=4))
def test_a_batch_is_stored_whole_or_refused_whole(batch: list[dict[str, Any]]) -> None:
    body = json.dumps(batch).encode("utf-8", "surrogatepass")
    found = judge(lambda: _from_batch(body))
    assert len(found) in (0, len(batch))


@given(kinds, st.binary(max_size=6), st.integers(0, 400), st.integers(0, 6))
def test_bytes_that_were_changed_are_an_event_or_refused(kind: str, noise: bytes, place: int, cut: int) -> None:
    body = json.dumps(valid(kind)).encode()
    broken = body[:place] + noise + body[place + cut :]
    judge(lambda: _from_structured(broken))
    judge(lambda: _from_batch(b"[" + broken + b"]"))


def request_with(headers: list[tuple[bytes, bytes]]) -> Request:
    return Request({"type": "http", "headers": headers})


@given(kinds)
def test_binary_mode_says_the_same_as_structured_mode(kind: str) -> None:
    event = valid(kind)
    headers = [
        (f"ce-{name}".encode(), quote(value).encode()) for name, value in event.items() if isinstance(value, str)
    ]
    body = json.dumps(event["data"]).encode()
    binary = judge(lambda: _from_binary(attributes_of(request_with(headers)), body))
    assert binary == judge(lambda: _from_structured(json.dumps(event).encode()))
    assert len(binary) == 1


@given(
    st.lists(st.tuples(st.sampled_from([b"ce-id", b"ce-type", b"ce-source", b"ce-tenant", b"ce-x", b"ce-", b"ce-data"]),
                       st.binary(max_size=30)), max_size=8),
    st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
)  # fmt: skip
def test_any_headers_and_any_body_are_judged(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    judge(lambda: _from_binary(attributes_of(request_with(headers)), body))


@pytest.mark.parametrize("kind", sorted(catalog().types))
def test_the_unchanged_event_of_each_type_is_stored(kind: str) -> None:
    assert [event.type for event in judge(lambda: _from_structured(json.dumps(valid(kind)).encode()))] == [kind]
