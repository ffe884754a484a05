"""Following one recipient's stream: reconnecting, resuming by cursor, and closing holes by the contract's rule."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import httpx_sse
import orjson

from shared.cli.console import CommandFailed
from shared.cli.server import CONNECT_SECONDS, base_url, bearer, problem_of, unreachable
from shared.cursor import Cursor, parse_cursor

STREAM = "/api/notifications/stream"
CHANGES = "/api/notifications/changes"
#: Waits between attempts, in seconds, each with equal jitter; the last one repeats.
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
#: A connection that lived this long was a good one: the waits begin anew.
GOOD_SECONDS = 5.0
#: The stream's own pace until it has told its `heartbeatSeconds`: two heartbeats of the default and 5 s.
SILENCE_SECONDS = 65.0
SILENCE_MARGIN_SECONDS = 5.0
#: Answers after which asking again makes sense.
LATER = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Told:
    """One frame as it came, or the client's own words about the connection (`event` "offline", no id)."""

    event: str
    data: dict[str, Any]
    id: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the frame for `--json`."""
        return {"id": self.id or None, "event": self.event, "data": self.data}


class Follower:
    """Follows a recipient's stream for ever. `mark` is the last change that was told; None before the first connection.

    `token` is called before each attempt, so that a token that ended meanwhile is replaced.
    """

    def __init__(self, server: str | None, token: Callable[[], str], since: Cursor | None = None) -> None:
        self.mark = since
        self._url = base_url(server)
        # A proxy from the shell's environment has no way to a server on this machine.
        self._trust_env = bool(server)
        self._token = token
        self._attempt = 0
        self._reached = False
        self._silence = SILENCE_SECONDS
        self._retry_seconds: float | None = None

    def frames(self) -> Iterator[Told]:
        """Yield what happens, each change once and in order, across disconnects.

        Raises `CommandFailed` when the server refuses for good (wrong credentials, no such stream), and when nobody
        answers at the first attempt: then the address is wrong, or nothing runs.
        """
        while True:
            since = time.monotonic()
            try:
                yield from self._connection()
                reason = "the stream ended"
            except httpx.ConnectError:
                if not self._reached:
                    raise unreachable(self._url) from None
                reason = "nobody answers"
            except httpx.TransportError as problem:
                reason = str(problem) or type(problem).__name__
            except _ComeLater as problem:
                reason = problem.detail
            if time.monotonic() - since >= GOOD_SECONDS:
                self._attempt = 0
            pause = self._pause()
            yield Told("offline", {"reason": reason, "retrySeconds": round(pause, 1)})
            time.sleep(pause)

    def _pause(self) -> float:
        told, self._retry_seconds = self._retry_seconds, None
        base = BACKOFF_SECONDS[min(self._attempt, len(BACKOFF_SECONDS) - 1)]
        self._attempt += 1
        return told if told is not None else base * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    def _client(self) -> httpx.Client:
        timeout = httpx.Timeout(self._silence, connect=CONNECT_SECONDS)
        return httpx.Client(
            base_url=self._url, timeout=timeout, headers=bearer(self._token()), trust_env=self._trust_env
        )

    def _connection(self) -> Iterator[Told]:
        headers = {} if self.mark is None else {"last-event-id": str(self.mark)}
        with self._client() as client, httpx_sse.connect_sse(client, "GET", STREAM, headers=headers) as source:
            self._reached = True
            if source.response.status_code != 200:
                source.response.read()
                self._refused(source.response)
            for sent in source.iter_sse():
                yield from self._received(sent, client)

    def _refused(self, answer: httpx.Response) -> None:
        problem = problem_of(answer)
        if answer.status_code not in LATER:
            raise problem
        told = answer.headers.get("retry-after", "")
        self._retry_seconds = float(told) if told.isdecimal() else None
        raise _ComeLater(problem.detail)

    def _received(self, sent: httpx_sse.ServerSentEvent, client: httpx.Client) -> Iterator[Told]:
        data: dict[str, Any] = orjson.loads(sent.data)
        told = Told(sent.event, data, sent.id if parse_cursor(sent.id) else "")
        if sent.event == "connected":
            self._silence = 2 * float(data["heartbeatSeconds"]) + SILENCE_MARGIN_SECONDS
        if sent.event == "goodbye":
            self._retry_seconds = float(data.get("retryMs", 0)) / 1000
        if sent.event in ("notification", "synced"):
            yield from self._in_order(told, client)
            return
        if sent.event in ("connected", "reset", "snapshot"):
            self.mark = parse_cursor(sent.id) or self.mark
        yield told

    def _in_order(self, told: Told, client: httpx.Client) -> Iterator[Told]:
        """Apply the rule: a frame that follows the mark is told, one at or below it dropped, else the hole is read."""
        cursor = parse_cursor(told.id)
        if cursor is None or self.mark is None:
            return
        if told.data["prev"] != self.mark.seq and cursor.seq > self.mark.seq:
            yield from self._missed(client)
            return
        if told.event == "synced" or cursor.seq > self.mark.seq:
            self.mark = cursor
            yield told

    def _missed(self, client: httpx.Client) -> Iterator[Told]:
        """Tell what `/changes` has after the mark, to its end."""
        more = True
        while more:
            answer = client.get(CHANGES, params={"since": str(self.mark)})
            if answer.status_code != 200:
                raise problem_of(answer)
            body = answer.json()
            cursor = parse_cursor(body["cursor"])
            counters = {name: body[name] for name in ("unreadCount", "unseenCount")}
            if body["reset"]:
                yield Told("reset", {"head": body["cursor"], **counters}, body["cursor"])
            for change in body["changes"]:
                yield Told("notification", {**change, **counters}, change["id"])
            more = body["hasMore"] and cursor != self.mark
            self.mark = cursor


class _ComeLater(CommandFailed):
    """The server asked to come back later."""
