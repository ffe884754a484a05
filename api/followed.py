"""Events that are followed: the edge's step of each, told once its frames are written to the sockets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from api.sse import Inbox
from shared import following, traces


class FollowedEvents:
    """Between two writes, what workers told of events that are followed. `by_key` are the inboxes open here."""

    def __init__(self, by_key: Mapping[bytes, Mapping[bytes, Inbox]]) -> None:
        self._by_key = by_key
        self._heard: list[tuple[following.Followed, float]] = []

    def hear(self, order: dict[str, Any]) -> None:
        """Take a worker's word of one. Raises where it is no such word."""
        event = following.Followed(
            trace_id=str(order["traceId"]),
            traceparent=order["traceparent"],
            event_key=int(order["eventKey"]),
            type=str(order["type"]),
            database=str(order["database"]),
            keys=[int(key) for key in order["keys"]],
        )
        self._heard.append((event, float(order["committedAt"])))

    def tell(self) -> None:
        """Tell of each that has streams here: its frames, which came before the word of it, were written just now."""
        heard, self._heard = self._heard, []
        for event, committed_at in heard:
            streams = self._streams_of(event)
            if streams:
                event.note("event.pushed", streams=streams)
                ids = {"event_key": event.event_key, "streams": streams}
                traces.tell("carillon.push", event.traceparent, committed_at, time.time(), **ids)

    def _streams_of(self, event: following.Followed) -> int:
        inboxes = self._by_key.get(event.database.encode(), {})
        return sum(len(inboxes[b"%d" % key].streams) for key in event.keys if b"%d" % key in inboxes)
