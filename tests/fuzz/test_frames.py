"""Frames through a parser of Server-Sent Events: whatever they carry, and wherever the bytes are cut."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from httpx_sse._decoders import SSEDecoder
from hypothesis import given
from hypothesis import strategies as st

from shared.cursor import MAX_NUMBER, Cursor
from shared.frames import Change, Counters, DeletedReason, FrameEvent, cursor_of, deleted, dumps, encode, live

#: All that PostgreSQL can hold, and so anything that a row can bring; what ends a line somewhere comes often.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\r\n\x85\u2028:\t"))
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
cursors = st.builds(Cursor, st.integers(1, MAX_NUMBER), st.integers(0, MAX_NUMBER))
frames = st.tuples(
    st.sampled_from(FrameEvent),
    st.dictionaries(texts, values, max_size=5),
    st.none() | cursors,
    st.none() | st.integers(0, 10**6),
)


def parsed(stream: bytes, cuts: list[int]) -> list[tuple[str, str, Any, int | None]]:
    """Return the events of a stream that arrives in pieces, read as the standard says: CR, LF and CRLF end a line."""
    decoder = SSEDecoder()
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    arrived = b"".join(stream[start:end] for start, end in pairwise(places)).decode()
    found = []
    for line in re.split(r"\r\n|\r|\n", arrived):
        event = decoder.decode(line)
        # Without data nothing is dispatched; the decoder tells of it all the same.
        if event is not None and event.data:
            found.append((event.event, event.id, json.loads(event.data), event.retry))
    return found


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 4_000), max_size=8))
def test_what_was_encoded_is_what_is_parsed_frame_by_frame(told: list[Any], cuts: list[int]) -> None:
    stream = b"".join(encode(event, data, cursor, retry_ms) for event, data, cursor, retry_ms in told)
    last, expected = "", []
    for event, data, cursor, retry_ms in told:
        # The standard keeps the last id for the frames without one.
        last = str(cursor) if cursor is not None else last
        expected.append((event.value, last, json.loads(dumps(data)), retry_ms))
    assert parsed(stream, cuts) == expected


@given(cursors, st.sampled_from([change for change in Change if change is not Change.CREATED]), values)
def test_a_live_frame_is_one_frame_with_its_own_id_and_predecessor(cursor: Cursor, change: Change, told: Any) -> None:
    frame = live(change, cursor, Counters(1, 2, 3), told=told)
    ((event, id, data, _),) = parsed(frame, [])
    assert (event, id, cursor_of(frame)) == ("notification", str(cursor), cursor)
    assert (data["prev"], data["type"], data["unreadCount"], data["unseenCount"]) == (
        cursor.seq - 1,
        change.value,
        1,
        2,
    )


@given(cursors, st.lists(texts, min_size=1, max_size=3), st.sampled_from(DeletedReason))
def test_ids_in_a_frame_cannot_end_it(cursor: Cursor, ids: list[str], reason: DeletedReason) -> None:
    ((_, id, data, _),) = parsed(deleted(cursor, Counters(0, 0, 0), ids, reason), [])
    assert (id, data["notificationIds"], data["reason"]) == (str(cursor), ids, reason.value)


@given(st.binary(max_size=80) | st.from_regex(rb"id: [0-9]+-[0-9]+\n.*", fullmatch=True))
def test_any_bytes_from_redis_have_a_cursor_or_none(frame: bytes) -> None:
    cursor = cursor_of(frame)
    assert cursor is None or frame.startswith(b"id: ")
