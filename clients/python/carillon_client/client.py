"""The client: events and the directory over HTTP. Every call may be repeated, and is, while the server is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx

from carillon_client.errors import Refused, Unavailable
from carillon_client.event import Event, envelope_of
from carillon_client.retry import LATER, pause_after

Status = Literal["accepted", "duplicate"]
T = TypeVar("T")
#: The server's bound for one batch, and the rows that it stores in one transaction.
BATCH = 1_000
PATIENCE_S = 60.0
TIMEOUT_S = 30.0
_STRUCTURED = "application/cloudevents+json"
_BATCHED = "application/cloudevents-batch+json"
_NDJSON = "application/x-ndjson"


def _path(*names: str) -> str:
    return "/api/" + "/".join(quote(name, safe="") for name in names)


def _pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while piece := list(islice(left, size)):
        yield piece


class Client:
    """Speaks to one server with one producer key; give it back with `close` or `with`. For one thread at a time.

    `patience` is for how many seconds a call is repeated before it raises `Unavailable`.
    """

    def __init__(
        self, url: str, key: str, *, patience: float = PATIENCE_S, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport)
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    # --- events ---

    def publish(self, event: Event | Mapping[str, Any]) -> Status:
        """Post one event; it is durable when this returns. Raises `Refused` or `Unavailable`."""
        answer = self._send("POST", "/api/events", envelope_of(event), kind=_STRUCTURED)
        status: Status = answer.json()["events"][0]["status"]
        return status

    def publish_many(self, events: Iterable[Event | Mapping[str, Any]]) -> list[Status]:
        """Post any number of events, a thousand at a time; returns their statuses in order.

        Each thousand is all or nothing: after `Refused`, those before it are stored. Its errors' `index` is the place
        among all events.
        """
        told: list[Status] = []
        for piece in _pieces(events, BATCH):
            try:
                answer = self._send("POST", "/api/events", [envelope_of(event) for event in piece], kind=_BATCHED)
            except Refused as refused:
                raise _moved(refused, len(told)) from None
            told += [event["status"] for event in answer.json()["events"]]
        return told

    def event(self, tenant: str, source: str, id: str) -> dict[str, Any]:
        """Return how far an event is: its `state` and `counts`. Raises `Refused` (404) for an unknown one."""
        found: dict[str, Any] = self._send("GET", _path("events", id), tenant=tenant, source=source).json()
        return found

    def cancel(self, tenant: str, source: str, id: str) -> dict[str, Any]:
        """Cancel an event: what is not told yet never is, what is gets withdrawn. Returns its state."""
        found: dict[str, Any] = self._send("DELETE", _path("events", id), tenant=tenant, source=source).json()
        return found

    # --- the directory ---

    def put_tenant(self, tenant: str) -> None:
        """Make a tenant, with a key for every tenant; one that exists stays."""
        self._send("PUT", _path("tenants", tenant))

    def put_recipient(
        self,
        tenant: str,
        id: str,
        *,
        roles: Iterable[str] = (),
        locale: str = "en",
        attributes: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Register a recipient, or replace what is known of one."""
        body = {"roles": list(roles), "locale": locale, "attributes": dict(attributes or {})}
        stored: dict[str, Any] = self._send("PUT", _path("recipients", tenant, id), body).json()
        return stored

    def get_recipient(self, tenant: str, id: str) -> dict[str, Any] | None:
        """Return a recipient, or None for one whom the directory does not know."""
        answer = self._unless_unknown("GET", _path("recipients", tenant, id))
        found: dict[str, Any] | None = None if answer is None else answer.json()
        return found

    def delete_recipient(self, tenant: str, id: str) -> bool:
        """Remove a person's data; returns False where the directory did not know the person (any more)."""
        return self._unless_unknown("DELETE", _path("recipients", tenant, id)) is not None

    def import_recipients(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Register any number of `{"tenant","id","roles","locale","attributes"}`; wrong rows are told and left out.

        Returns `created`, `updated`, `rejected`, and `errors` with each rejected row's place (`line`, from 1).
        """
        return self._import(_path("recipients", "bulk"), rows, ("created", "updated", "rejected"))

    def join(self, tenant: str, topic: str, recipient: str) -> None:
        """Make a recipient a member of a topic. Raises `Refused` (404) for an unknown one."""
        self._send("PUT", _path("topics", tenant, topic, "members", recipient))

    def leave(self, tenant: str, topic: str, recipient: str) -> None:
        """End a membership. Raises `Refused` (404) for an unknown recipient."""
        self._send("DELETE", _path("topics", tenant, topic, "members", recipient))

    def change_topics(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Change any number of memberships `{"tenant","topic","recipient","member"}`, `member` false to leave.

        Returns `changed`, `unchanged`, `rejected` and `errors`, as `import_recipients`.
        """
        return self._import(_path("topics", "bulk"), rows, ("changed", "unchanged", "rejected"))

    def _import(self, path: str, rows: Iterable[Mapping[str, Any]], counts: tuple[str, ...]) -> dict[str, Any]:
        totals: dict[str, Any] = dict.fromkeys(counts, 0)
        errors: list[dict[str, Any]] = []
        sent = 0
        for piece in _pieces(rows, BATCH):
            lines = "\n".join(json.dumps(dict(row)) for row in piece)
            told = self._send("POST", path, lines, kind=_NDJSON).json()
            totals = {name: totals[name] + told[name] for name in counts}
            errors += [{**error, "line": error["line"] + sent} for error in told["errors"]]
            sent += len(piece)
        return {**totals, "errors": errors}

    # --- sending ---

    def _unless_unknown(self, method: str, path: str) -> httpx.Response | None:
        try:
            return self._send(method, path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def _send(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **query: str
    ) -> httpx.Response:
        """Return the answer of success; raises `Refused` for any other, `Unavailable` when patience is at its end."""
        text = body if isinstance(body, str) else json.dumps(body)
        content = None if body is None else text.encode()
        headers = None if body is None else {"content-type": kind}
        deadline = time.monotonic() + self._patience
        tries = 0
        while True:
            tries += 1
            answer = self._try(method, path, content=content, headers=headers, params=query or None)
            if answer is not None and answer.status_code not in LATER:
                return _judged(answer)
            pause = pause_after(tries, answer.headers.get("retry-after") if answer is not None else None)
            if time.monotonic() + pause > deadline:
                why = "could not be reached" if answer is None else f"answered {answer.status_code}"
                raise Unavailable(f"The server {why}, {tries} times within {self._patience:g} s.")
            time.sleep(pause)

    def _try(self, method: str, path: str, **request: Any) -> httpx.Response | None:
        """Return the answer, or None where the connection failed."""
        try:
            return self._http.request(method, path, **request)
        except httpx.TransportError:
            return None


def _judged(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    raise Refused(answer.status_code, problem if isinstance(problem, dict) else {})


def _moved(refused: Refused, by: int) -> Refused:
    """Return the refusal of a later piece with its indexes counted from the first event of all."""
    errors = [{**error, "index": error["index"] + by} if "index" in error else error for error in refused.errors]
    return Refused(refused.status, {**refused.problem, "errors": errors} if errors else refused.problem)
