"""Sending batches: what happens when the server says "later", told by a scripted server."""

from __future__ import annotations

import io
from collections.abc import Callable

import httpx
import orjson
import pytest

from shared.cli import sender
from shared.cli.console import CommandFailed
from shared.cli.sender import Item, Sender, batches, read_events

ACCEPTED = httpx.Response(202, json={"events": [{"id": "1", "status": "accepted"}]})
LATER = {"retry-after": "0"}


def scripted(*answers: httpx.Response | Exception) -> tuple[Sender, list[httpx.Request]]:
    """Return a sender whose server gives these answers in turn, and the requests that it got."""
    left, got = list(answers), []

    def handle(request: httpx.Request) -> httpx.Response:
        got.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Sender(httpx.Client(base_url="http://carillon", transport=httpx.MockTransport(handle))), got


def item(place: int = 1) -> Item:
    return Item({"id": str(place)}, place, 10)


def read(content: bytes) -> list[Item]:
    return list(read_events(io.BytesIO(content), {"source": "/default", "tenant": "acme"}))


def test_a_batch_is_sent_again_after_503_and_429() -> None:
    made, got = scripted(httpx.Response(503, headers=LATER), httpx.Response(429, headers=LATER), ACCEPTED)
    assert made.send([item()]) == [{"id": "1", "status": "accepted"}]
    assert [request.content for request in got] == [b'[{"id":"1"}]'] * 3
    assert made.counts == {"accepted": 1}


def test_a_connection_that_breaks_after_it_worked_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "PAUSE_SECONDS", 0.0)
    made, got = scripted(ACCEPTED, httpx.ReadError("cut"), httpx.ConnectError("refused"), ACCEPTED)
    made.send([item()])
    made.send([item()])
    assert (len(got), made.counts["accepted"]) == (4, 2)


def test_a_server_that_was_never_reached_is_told_at_once() -> None:
    made, got = scripted(httpx.ConnectError("refused"))
    with pytest.raises(httpx.ConnectError):
        made.send([item()])
    assert len(got) == 1


def test_a_server_that_stays_away_ends_the_command_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "GIVE_UP_SECONDS", 0.0)
    busy = httpx.Response(503, headers={"retry-after": "1"}, json={"title": "It cannot be done", "detail": "Busy."})
    made, _ = scripted(busy)
    with pytest.raises(CommandFailed, match=r"It cannot be done: Busy \(503\)\."):
        made.send([item()])


def test_a_refused_batch_names_its_events_by_their_place_in_the_file() -> None:
    problem = {"title": "The input is not valid", "errors": [{"field": "data.x", "message": "is required", "index": 1}]}
    made, got = scripted(httpx.Response(422, json=problem))
    with pytest.raises(CommandFailed) as refused:
        made.send([item(2001), item(2002)])
    assert [(error.field, error.message) for error in refused.value.errors] == [("event 2002: data.x", "is required")]
    assert len(got) == 1


def test_batches_hold_a_thousand_events_and_no_more_than_a_megabyte() -> None:
    assert [len(batch) for batch in batches(Item({}, n, 10) for n in range(2_500))] == [1_000, 1_000, 500]
    big = sender.BATCH_BYTES // 2
    assert [len(batch) for batch in batches(Item({}, n, big) for n in range(5))] == [2, 2, 1]
    assert list(batches([])) == []


@pytest.mark.parametrize(
    "write",
    [
        orjson.dumps,
        lambda events: b"\n  " + orjson.dumps(events, option=orjson.OPT_INDENT_2),
        lambda events: b"\n\n".join(orjson.dumps(event) for event in events),
        lambda events: b"\r\n".join(orjson.dumps(event) for event in events) + b"\r\n",
    ],
    ids=["array", "indented array", "lines with blank ones", "lines of Windows"],
)
def test_a_file_is_an_array_or_lines(write: Callable[[object], bytes]) -> None:
    found = read(write([{"id": "1"}, {"id": "2", "source": "/mine"}]))
    assert [(one.place, one.event) for one in found] == [
        (1, {"specversion": "1.0", "source": "/default", "tenant": "acme", "id": "1"}),
        (2, {"specversion": "1.0", "source": "/mine", "tenant": "acme", "id": "2"}),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"id": "1"}\n{"id": \n', "line 2"),
        (b"[1]", "Event 1 of the file is no JSON object"),
        (b'[{"id": "1"}', "no JSON array"),
        (b"7\n", "Event 1 of the file is no JSON object"),
    ],
)
def test_what_is_no_event_is_named(content: bytes, sentence: str) -> None:
    with pytest.raises(CommandFailed, match=sentence):
        read(content)


def test_an_empty_file_holds_no_events() -> None:
    assert read(b"") == read(b"\n \n") == read(b"[]") == []
