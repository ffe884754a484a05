"""A client of the stream that keeps to the contract: it comes back with its cursor and applies frames by `prev`.

It also judges what it is told: within one connection every frame must follow the one before, and nothing is new twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson

from tests.fault.http import Refused, get_json, open_stream
from tests.fault.ledger import Ledger

#: Heartbeats that may be missing before a connection counts as dead, and half a second for the way.
MISSED_HEARTBEATS = 2
SLACK_S = 0.5
#: What a browser does without a word from the server.
RETRY_S = 1.0
HEAD_S = 4.0
PAGE = 100


class Unusable(Exception):
    """The connection cannot be followed any further: come back with the cursor."""


#: What ends a connection, or keeps it from being opened.
LOST = (OSError, asyncio.IncompleteReadError, TimeoutError, Refused, Unusable)


@dataclass(slots=True)
class Inbox:
    """What a client knows: every notification and whether it was read, the badge's two numbers, and its mark."""

    epoch: int = 0
    mark: int = 0
    unread: int = 0
    unseen: int = 0
    items: dict[str, bool] = field(default_factory=dict)

    @property
    def cursor(self) -> str:
        """The cursor to come back with."""
        return f"{self.epoch}-{self.mark}"


class StreamClient:
    """One recipient's stream, open or coming back from `run()` until that is cancelled."""

    def __init__(self, number: int, token: str, ports: list[int], ledger: Ledger) -> None:
        self.number, self.token, self.ports, self.ledger = number, token, ports, ledger
        self.inbox = Inbox()
        self.is_open = False
        #: Closed from outside while set: the client stays away.
        self.held = asyncio.Event()
        self.client = uuid4()
        self.turn = number
        self.begun = False
        self._told_new: set[str] = set()
        #: Told as deleted before they were told at all (a replay): whose events these were, only the database knows.
        self.unnamed: set[str] = set()
        #: Up to here a page was read that the server's stream does not know of: frames of before are dropped.
        self._page_mark = 0
        self._retry_s = RETRY_S
        self._quiet_s = HEAD_S
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Follow the inbox for ever."""
        while True:
            try:
                await self._follow()
            except LOST as problem:
                self.ledger.happened[f"stream: {type(problem).__name__}"] += 1
            except Exception as problem:
                self._blame("client failed", repr(problem))
                raise
            finally:
                self._close()
            await asyncio.sleep(self._retry_s * random.uniform(0.8, 1.2))
            self.turn += 1
            while self.held.is_set():
                await asyncio.sleep(0.1)

    def hold(self) -> None:
        """Go away, and stay away until `held` is cleared."""
        self.held.set()
        self._close()

    def _close(self) -> None:
        self.is_open = False
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    async def _follow(self) -> None:
        headers = {"Last-Event-ID": self.inbox.cursor} if self.begun else {}
        port = self.ports[self.turn % len(self.ports)]
        reader, self._writer = await open_stream(port, self.token, f"client={self.client}", headers, HEAD_S)
        self._quiet_s = HEAD_S
        buffer = b""
        while True:
            async with asyncio.timeout(self._quiet_s):
                size = int(await reader.readuntil(b"\r\n"), 16)
                chunk = await reader.readexactly(size + 2)
            if size == 0:
                return
            *frames, buffer = (buffer + chunk[:-2]).split(b"\n\n")
            for frame in frames:
                await self._take(frame, port)

    async def _take(self, frame: bytes, port: int) -> None:
        fields = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
        if b"retry" in fields:
            self._retry_s = int(fields[b"retry"]) / 1000
        data = orjson.loads(fields[b"data"])
        event = fields[b"event"].decode()
        if event == "heartbeat":
            return
        if event == "goodbye":
            self.ledger.happened[f"goodbye {data['reason']}"] += 1
            return
        epoch, seq = (int(part) for part in fields[b"id"].split(b"-"))
        if event == "connected":
            self._connected(epoch, seq, data)
        elif event == "reset":
            await self._fetch(port)
        else:
            self._apply(event, epoch, seq, data)

    def _connected(self, epoch: int, seq: int, data: dict[str, Any]) -> None:
        self._quiet_s = MISSED_HEARTBEATS * data["heartbeatSeconds"] + SLACK_S
        self.is_open = True
        if not self.begun:
            self.begun = True
            self.inbox.epoch, self.inbox.mark = epoch, seq
            if seq:
                self._blame("seq missing", "an inbox that was empty is not")
        elif (epoch, seq) != (self.inbox.epoch, self.inbox.mark):
            self._blame("seq missing", f"came back with {self.inbox.cursor} and was told {epoch}-{seq}")

    def _apply(self, event: str, epoch: int, seq: int, data: dict[str, Any]) -> None:
        """Take a frame with an id by the rule: next, already had, or a hole."""
        inbox, prev = self.inbox, data["prev"]
        if epoch != inbox.epoch:
            self._blame("seq missing", f"{epoch}-{seq} after {inbox.cursor} without a reset")
            raise Unusable
        if prev != inbox.mark:
            self._out_of_order(prev, seq)
            return
        if seq < inbox.mark or (seq == inbox.mark and event != "synced"):
            self._blame("seq told twice", f"{seq} at mark {inbox.mark}")
            return
        if event == "notification":
            _KINDS[data["type"]](self, data)
        inbox.mark = seq
        if "unreadCount" in data:
            # A replay's steps carry none: its end does.
            inbox.unread, inbox.unseen = data["unreadCount"], data["unseenCount"]

    def _out_of_order(self, prev: int, seq: int) -> None:
        inbox = self.inbox
        if seq <= inbox.mark and prev < self._page_mark:
            return
        if prev < self._page_mark < seq:
            raise Unusable
        kind = "seq told twice" if seq <= inbox.mark else "seq missing"
        self._blame(kind, f"{seq} after {prev} at mark {inbox.mark}")
        raise Unusable

    def _blame(self, kind: str, words: str) -> None:
        self.ledger.blame(kind, f"stream {self.number}: {words}")

    async def _fetch(self, port: int) -> None:
        """Begin anew from pages, as `reset` asks for: all of them, of one seq."""
        self.ledger.happened["reset"] += 1
        while True:
            pages = await self._pages(port)
            if len({page["cursor"] for page in pages}) == 1:
                break
        last = pages[-1]
        epoch, seq = (int(part) for part in last["cursor"].split("-"))
        nodes = [node for page in pages for node in page["nodes"]]
        items = {node["id"]: bool(node["read"]) for node in nodes}
        self.inbox = Inbox(epoch, seq, last["unreadCount"], last["unseenCount"], items)
        self._page_mark = seq
        for node in nodes:
            self._hear(node)

    async def _pages(self, port: int) -> list[dict[str, Any]]:
        pages: list[dict[str, Any]] = []
        after = ""
        while not pages or pages[-1]["pageInfo"]["hasNextPage"]:
            path = f"/api/notifications?first={PAGE}{after}"
            pages.append(await get_json(port, path, self.token, HEAD_S))
            after = f"&after={pages[-1]['pageInfo']['endCursor']}"
        return pages

    # What a change does

    def _hear(self, node: dict[str, Any]) -> None:
        """Note which event a notification tells of."""
        self.ledger.hear(self.number, node["metadata"].get("certificateId") or node["title"])

    def _created(self, data: dict[str, Any]) -> None:
        node = data["notification"]
        if node["id"] in self._told_new:
            self._blame("notification doubled", f"{node['id']} was new twice")
        self._told_new.add(node["id"])
        self.inbox.items[node["id"]] = node["read"]
        self._hear(node)

    def _changed(self, data: dict[str, Any]) -> None:
        for node in data["notifications"]:
            self._told_new.add(node["id"])
            self.inbox.items[node["id"]] = node["read"]
            self._hear(node)
        for id in data["deletedIds"]:
            self.inbox.items.pop(id, None)
            if id not in self._told_new:
                self.unnamed.add(id)

    def _deleted(self, data: dict[str, Any]) -> None:
        for id in data["notificationIds"]:
            self.inbox.items.pop(id, None)

    def _read_all(self, _data: dict[str, Any]) -> None:
        # Live and without `upTo`: all that there are.
        self.inbox.items = dict.fromkeys(self.inbox.items, True)

    def forget(self) -> None:
        """A backup is restored: what was new before may be new again."""
        self._told_new.clear()


#: What the load makes happen, by the kind that the stream tells it as.
_KINDS: dict[str, Callable[[StreamClient, dict[str, Any]], None]] = {
    "created": StreamClient._created,
    "changed": StreamClient._changed,
    "deleted": StreamClient._deleted,
    "read_all": StreamClient._read_all,
}


async def close_all(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for them."""
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
