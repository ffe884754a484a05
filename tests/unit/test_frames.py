"""Frames: nothing in a value may end a frame or begin another field; a fan-out's frame equals an encoded one."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from httpx_sse._decoders import SSEDecoder
from hypothesis import given
from hypothesis import strategies as st

from shared.cursor import Cursor
from shared.frames import (
    Change,
    Counters,
    DeletedReason,
    FrameEvent,
    Replay,
    channel_of,
    compact,
    created,
    cursor_of,
    deleted,
    dumps,
    encode,
    live,
    notification_json,
    shared_rest,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]))


def row(**changes: Any) -> dict[str, Any]:
    return {
        "id": UUID(int=7),
        "tenant": "uni",
        "created_seq": 3,
        "seq": 3,
        "type": "certificate.issued",
        "priority": 1,
        "title": "Certificate Issued",
        "message": "Yours",
        "action_url": "/student/certificates/c1",
        "metadata": {"certificateId": "c1"},
        "created_at": NOW,
        "expires_at": None,
        "seen_at": None,
        "read_at": None,
        "archived_at": None,
        "deleted_at": None,
        **changes,
    }


def decoded(stream: bytes) -> list[Any]:
    """Decode as a browser does: lines end with CR, LF or CRLF."""
    decoder = SSEDecoder()
    lines = stream.decode().replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    return [event for line in lines if (event := decoder.decode(line)) is not None]


@given(texts, texts, st.dictionaries(texts, texts))
def test_hostile_texts_stay_inside_their_frame(title: str, message: str, metadata: dict[str, str]) -> None:
    hostile = notification_json(row(title=title, message=message, metadata=metadata))
    events = decoded(live(Change.CREATED, Cursor(1, 3), Counters(1, 1, 1), notification=hostile))
    assert [(event.event, event.id) for event in events] == [("notification", "1-3")]
    told = json.loads(events[0].data)["notification"]
    assert (told["title"], told["message"], told["metadata"]) == (title, message, metadata)


@given(texts, st.integers(1, 2**62))
def test_a_fan_outs_frame_tells_the_same_as_one_encoded_whole(title: str, seq: int) -> None:
    cursor, counters = Cursor(2, seq), Counters(4, 2, 9)
    one = row(title=title, seq=seq, created_seq=seq)
    fast = created(cursor, str(one["id"]), dumps(one["tenant"]), counters, shared_rest(one))
    whole = live(Change.CREATED, cursor, counters, notification=notification_json(one))
    assert json.loads(decoded(fast)[0].data) == json.loads(decoded(whole)[0].data)
    assert cursor_of(fast) == cursor_of(whole) == cursor
    assert fast.endswith(b"}}\n\n")


def test_only_frames_with_an_id_have_a_cursor() -> None:
    assert cursor_of(encode(FrameEvent.HEARTBEAT, {"timestamp": 1})) is None
    assert cursor_of(encode(FrameEvent.SYNCED, {}, Cursor(1, 0))) == Cursor(1, 0)


def test_times_are_rfc_3339_in_utc() -> None:
    told = json.loads(dumps(notification_json(row(read_at=NOW))))
    assert (told["readAt"], told["read"], told["expiresAt"]) == ("2026-01-02T03:04:05.678000Z", True, None)


def test_a_deletion_names_one_id_or_a_list() -> None:
    one = json.loads(decoded(deleted(Cursor(1, 5), Counters(0, 0, 0), ["a"], DeletedReason.USER))[0].data)
    assert (one["prev"], one["type"], one["reason"], one["notificationId"]) == (4, "deleted", "user", "a")
    many = json.loads(decoded(deleted(Cursor(1, 5), Counters(0, 0, 0), ["a", "b"], DeletedReason.CAPPED))[0].data)
    assert many["notificationIds"] == ["a", "b"]
    assert "notificationId" not in many


def test_rows_of_one_seq_stand_in_one_step_and_steps_are_chained() -> None:
    rows = [row(seq=5), row(seq=7, id=UUID(int=8)), row(seq=7, id=UUID(int=9), deleted_at=NOW)]
    steps = compact(2, rows)
    assert [(seq, step["prev"]) for seq, step in steps] == [(5, 2), (7, 5)]
    assert [note["id"] for note in steps[1][1]["notifications"]] == [str(UUID(int=8))]
    assert steps[1][1]["deletedIds"] == [str(UUID(int=9))]


def test_a_replay_ends_with_synced_at_the_head() -> None:
    replay = Replay(Cursor(1, 2), Cursor(1, 9), Counters(3, 1, 4), compact(2, [row(seq=5)]))
    events = decoded(replay.encode())
    assert [(event.event, event.id) for event in events] == [("notification", "1-5"), ("synced", "1-9")]
    end = {"prev": 5, "cursor": "1-9", "unreadCount": 3, "unseenCount": 1}
    assert json.loads(events[1].data) == end


def test_a_reset_tells_the_head_alone() -> None:
    replay = Replay(Cursor(9, 2), Cursor(1, 9), Counters(3, 1, 4), reset=True)
    assert [(event.event, event.id) for event in decoded(replay.encode())] == [("reset", "1-9")]


def test_channels_are_percent_encoded_and_hash_tagged() -> None:
    assert channel_of("uni", "a/b}{ü") == "carillon:{uni/a%2Fb%7D%7B%C3%BC}"
