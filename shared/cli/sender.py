"""Posting events in batches: read from a file piece by piece, sent again where the server asks to come back later."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import httpx
import orjson

from shared.cli.console import CommandFailed
from shared.cli.server import problem_of
from shared.errors import FieldError

ONE_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"
#: The server's own bounds for one request: events, and bytes (it takes 64 KiB for each event, but few need them).
BATCH_EVENTS = 1_000
BATCH_BYTES = 1024 * 1024
#: Answers that say "later": too many requests, and a server (or a proxy before it) whose parts are away.
LATER = frozenset({429, 502, 503, 504})
#: A restart takes seconds; whoever waits for a minute wants to be told.
GIVE_UP_SECONDS = 60.0
#: Where no Retry-After says otherwise.
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Item:
    """One event of a file: `place` counts events from 1, `size` is how many of the file's bytes it took."""

    event: dict[str, Any]
    place: int
    size: int


@dataclass(slots=True)
class Sender:
    """Posts events; `counts` says how many were answered `accepted` and how many `duplicate`."""

    client: httpx.Client
    counts: Counter[str] = field(default_factory=Counter)
    _reached: bool = False

    def send(self, items: list[Item]) -> list[dict[str, str]]:
        """Post one batch and return the answer for each event. Sending again is safe: the server knows what it has.

        Raises `CommandFailed` when the batch was refused (it is all or nothing), naming the events by their place,
        and when the server stayed away for a minute.
        """
        answer = self._post(orjson.dumps([item.event for item in items]), BATCH_TYPE)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise _placed(problem_of(answer), items)
        return self._counted(answer)

    def send_one(self, event: dict[str, Any]) -> dict[str, str]:
        """Post one event by itself and return its answer; otherwise like `send`."""
        answer = self._post(orjson.dumps(event), ONE_TYPE)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise problem_of(answer)
        return self._counted(answer)[0]

    def _counted(self, answer: httpx.Response) -> list[dict[str, str]]:
        told: list[dict[str, str]] = answer.json()["events"]
        self.counts.update(event["status"] for event in told)
        return told

    def _post(self, body: bytes, content_type: str) -> httpx.Response:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while True:
            answer, pause = self._try(body, content_type)
            if answer is not None and answer.status_code not in LATER:
                return answer
            if time.monotonic() + pause > deadline:
                raise _gave_up(answer)
            time.sleep(pause)

    def _try(self, body: bytes, content_type: str) -> tuple[httpx.Response | None, float]:
        """Post once; return the answer (None: the connection broke) and how long to wait before the next time."""
        try:
            answer = self.client.post("/api/events", content=body, headers={"content-type": content_type})
        except httpx.TransportError:
            if not self._reached:
                raise
            return None, PAUSE_SECONDS
        self._reached = True
        return answer, _retry_after(answer)


def _gave_up(answer: httpx.Response | None) -> CommandFailed:
    if answer is not None:
        return problem_of(answer)
    return CommandFailed(f"The server stayed away for {GIVE_UP_SECONDS:.0f} s: run it again, nothing is sent twice.")


def _retry_after(answer: httpx.Response) -> float:
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isdecimal() else PAUSE_SECONDS


def _placed(problem: CommandFailed, items: list[Item]) -> CommandFailed:
    """Return the problem with each event named by its place in the file instead of its index in the batch."""
    first = items[0].place
    return CommandFailed(
        problem.detail, errors=tuple(FieldError(_named(error.field, first), error.message) for error in problem.errors)
    )


def _named(name: str, first: int) -> str:
    index, bracket, rest = name.removeprefix("[").partition("]")
    if not bracket or not index.isdecimal():
        return name
    return f"event {int(index) + first}: {rest.removeprefix('.')}".rstrip(": ")


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items in batches that one request may carry, in their order."""
    batch: list[Item] = []
    size = 0
    for item in items:
        if batch and (len(batch) == BATCH_EVENTS or size + item.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield batch


def read_events(file: BinaryIO, defaults: dict[str, str]) -> Iterator[Item]:
    """Yield a file's events: one JSON array, or one event a line (NDJSON; blank lines are passed over).

    `defaults` fills in attributes that an event leaves out. NDJSON is read as it is sent, an array at once. Raises
    `CommandFailed` naming the event that is no JSON object.
    """
    first = file.readline()
    while first and not first.strip():
        first = file.readline()
    pieces = _array(first + file.read()) if first.lstrip().startswith(b"[") else _lines(first, file)
    for place, (value, size) in enumerate(pieces, start=1):
        if not isinstance(value, dict):
            raise CommandFailed(f"Event {place} of the file is no JSON object.")
        yield Item({"specversion": "1.0", **defaults, **value}, place, size)


def _array(content: bytes) -> Iterator[tuple[Any, int]]:
    try:
        values = orjson.loads(content)
    except orjson.JSONDecodeError as problem:
        raise CommandFailed(f"The file is no JSON array ({problem}).") from None
    share = len(content) // max(len(values), 1)
    yield from ((value, share) for value in values)


def _lines(first: bytes, file: BinaryIO) -> Iterator[tuple[Any, int]]:
    number = 0
    line = first
    while line:
        number += 1
        if line.strip():
            yield _parsed(line, number), len(line)
        line = file.readline()


def _parsed(line: bytes, number: int) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        raise CommandFailed(f"The file's line {number} is not valid JSON ({problem}).") from None
