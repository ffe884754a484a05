"""The inbox's API as bytes on sockets: many calls in one round trip, and a stream that is read when it is asked for.

Both are plain and blocking: an example of the law test makes hundreds of calls, and what they tell has to come in an
order that a second run repeats.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from tests.listener import STREAM, Frame, parse

#: Two busy cores answer within milliseconds; whoever waits this long waits for something that will not come.
WITHIN_S = 20.0
#: More than any answer here has; what is larger is read in pieces.
PIECE = 256 * 1024
#: As many calls are answered at once; fewer than the server's connections to the database.
CONNECTIONS = 6


class Call(NamedTuple):
    """One request of whoever has the bearer token."""

    bearer: str
    method: str
    path: str
    body: Any = None
    kind: str = "application/json"

    def encoded(self) -> bytes:
        """Return it as HTTP."""
        body = b"" if self.body is None else orjson.dumps(self.body)
        told = f"content-type: {self.kind}\r\ncontent-length: {len(body)}\r\n" if body else ""
        head = f"{self.method} {self.path} HTTP/1.1\r\nhost: law\r\nauthorization: Bearer {self.bearer}\r\n{told}\r\n"
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `told` is its JSON."""

    status: int
    told: Any


def _connected(url: str) -> socket.socket:
    address = urlsplit(url)
    plain = socket.create_connection((address.hostname, address.port), WITHIN_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


class _Connection:
    """A keep-alive connection that carries several calls at once (pipelined), answered in their order."""

    def __init__(self, url: str) -> None:
        self.plain = _connected(url)
        self._rest = b""

    def answer(self) -> Answer:
        """Return the next answer."""
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            self._more()
        lines = self._rest[:end].split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
        until = end + 4 + int(fields[b"content-length"])
        while len(self._rest) < until:
            self._more()
        body, self._rest = self._rest[end + 4 : until], self._rest[until:]
        return Answer(int(lines[0].split()[1]), orjson.loads(body))

    def _more(self) -> None:
        piece = self.plain.recv(PIECE)
        assert piece, "the server ended the connection"
        self._rest += piece


class Caller:
    """Makes calls, several at once over a few connections to the API processes: on a busy machine one after the other
    takes four times as long. What changes something is called alone.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._connections = [_Connection(urls[number % len(urls)]) for number in range(CONNECTIONS)]
        self._turn = 0

    def close(self) -> None:
        """End the connections."""
        for connection in self._connections:
            connection.plain.close()

    def one(self, call: Call) -> Answer:
        """Return the answer of one call."""
        return self.all([call])[0]

    def all(self, calls: Sequence[Call]) -> list[Answer]:
        """Return the answers of calls that do not depend on each other, in the calls' order."""
        places = len(self._connections)
        self._turn = (self._turn + 1) % places
        taken = self._connections[self._turn :] + self._connections[: self._turn]
        for place, connection in enumerate(taken):
            own = b"".join(call.encoded() for call in calls[place::places])
            if own:
                connection.plain.sendall(own)
        return [taken[number % places].answer() for number in range(len(calls))]


class Wire:
    """One connection to the stream. The request is sent at once; what comes is read by `next` and `waiting`."""

    def __init__(self, url: str, bearer: str, query: str = "", last_event_id: str | None = None) -> None:
        self._plain = _connected(url)
        told = f"last-event-id: {last_event_id}\r\n" if last_event_id is not None else ""
        target = STREAM + (f"?{query}" if query else "")
        request = f"GET {target} HTTP/1.1\r\nhost: law\r\nauthorization: Bearer {bearer}\r\n{told}\r\n"
        self._plain.sendall(request.encode())
        self._bytes, self._text, self._begun = b"", b"", False
        self._frames: deque[Frame] = deque()

    def close(self) -> None:
        """Cut the connection."""
        self._plain.close()

    def next(self) -> Frame:
        """Return the next frame, heartbeats left out. Fails when none comes."""
        deadline = time.monotonic() + WITHIN_S
        while not self._frames:
            left = deadline - time.monotonic()
            assert left > 0, f"no frame within {WITHIN_S} s"
            self._plain.settimeout(left)
            self._take(self._plain.recv(PIECE))
        return self._frames.popleft()

    def waiting(self) -> list[Frame]:
        """Return the frames that are there already."""
        self._plain.setblocking(False)
        with suppress(BlockingIOError):
            self._take(self._plain.recv(PIECE))
        frames = list(self._frames)
        self._frames.clear()
        return frames

    def _take(self, piece: bytes) -> None:
        assert piece, "the server ended the stream"
        self._bytes += piece
        if not self._begun and not self._begin():
            return
        self._unchunk()
        whole, _, self._text = self._text.rpartition(b"\n\n")
        if whole:
            self._frames += (frame for frame in parse(whole + b"\n\n") if frame.event != "heartbeat")

    def _begin(self) -> bool:
        head, end, rest = self._bytes.partition(b"\r\n\r\n")
        if end:
            assert head.startswith(b"HTTP/1.1 200"), head + rest
            self._bytes, self._begun = rest, True
        return self._begun

    def _unchunk(self) -> None:
        while (end := self._bytes.find(b"\r\n")) >= 0:
            size = int(self._bytes[:end], 16)
            if len(self._bytes) < end + 2 + size + 2:
                return
            self._text += self._bytes[end + 2 : end + 2 + size]
            self._bytes = self._bytes[end + 2 + size + 2 :]
