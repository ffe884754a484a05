"""`carillon tail` as a client of the contract's rule, against a server that sends what a faulty one would."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from threading import Thread

import orjson
import pytest

from shared.cli.follow import CHANGES, Follower
from shared.cursor import Cursor

COUNTERS = {"unreadCount": 0, "unseenCount": 0}
CONNECTED = {"status": "connected", "cursor": "1-4", "head": "1-4", "heartbeatSeconds": 30, **COUNTERS}


def frame(event: str, seq: int, **data: object) -> bytes:
    return b"id: 1-%d\nevent: %s\ndata: %s\n\n" % (seq, event.encode(), orjson.dumps({**data, **COUNTERS}))


def changed(seq: int, prev: int) -> bytes:
    return frame("notification", seq, prev=prev, type="seen")


class Scripted(ThreadingHTTPServer):
    """Sends one stream, and tells whoever asks the changes up to 7; `asked` are the targets that were asked for."""

    daemon_threads = True

    def __init__(self, stream: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stream = stream
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        is_stream = not self.path.startswith(CHANGES)
        after = 0 if is_stream else int(self.path.rpartition("-")[2])
        steps = [{"id": f"1-{seq}", "prev": seq - 1, "type": "changed"} for seq in range(after + 1, 8)]
        told = orjson.dumps({"changes": steps, "cursor": "1-7", "hasMore": False, "reset": False, **COUNTERS})
        body = self.server.stream if is_stream else told
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if is_stream else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Scripted]:
    scripted = Scripted(frame("connected", 4, **CONNECTED) + request.param)
    thread = Thread(target=scripted.serve_forever)
    thread.start()
    yield scripted
    scripted.shutdown()
    thread.join()
    scripted.server_close()


def told_by(server: Scripted, many: int) -> list[str]:
    follower = Follower(f"http://127.0.0.1:{server.server_port}", lambda: "token", Cursor(1, 4))
    return [told.id for told in islice(follower.frames(), many)]


@pytest.mark.parametrize("server", [changed(5, 4) + changed(7, 6) + changed(8, 7)], indirect=True)
def test_a_frame_that_does_not_follow_the_mark_makes_it_read_the_changes(server: Scripted) -> None:
    """Fails when `prev` is ignored: the change that the stream left out would be missed for ever."""
    assert told_by(server, 5) == ["1-4", "1-5", "1-6", "1-7", "1-8"]
    assert server.asked[1:] == [f"{CHANGES}?since=1-5"]


@pytest.mark.parametrize("server", [changed(5, 4) + changed(4, 3) + changed(5, 4) + changed(6, 5)], indirect=True)
def test_a_frame_at_or_below_the_mark_is_dropped(server: Scripted) -> None:
    assert told_by(server, 3) == ["1-4", "1-5", "1-6"]
    assert server.asked[1:] == []
