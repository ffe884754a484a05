"""The client: events and the directory over HTTP. Every call may be repeated, and is, while the server is away."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from carillon_client import calls
from carillon_client.calls import AnyEvent, Call, Found, Request, Status, T
from carillon_client.errors import Refused
from carillon_client.retry import LATER, PATIENCE_S, Patience
from carillon_client.sending import TIMEOUT_S, answered, arguments, headers_of, is_passing


class Client:
    """Speaks to one server with one producer key; give it back with `close` or `with`. For one thread at a time.

    `patience` is for how many seconds a call is repeated before it raises `Unavailable`.
    """

    def __init__(
        self, url: str, key: str, *, patience: float = PATIENCE_S, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = httpx.Client(base_url=url, headers=headers_of(key), timeout=TIMEOUT_S, transport=transport)
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

    def publish(self, event: AnyEvent) -> Status:
        """Post one event; it is durable when this returns. Raises `Refused` or `Unavailable`."""
        return self._run(calls.publish(event))

    def publish_many(self, events: Iterable[AnyEvent]) -> list[Status]:
        """Post any number of events, a thousand at a time; returns their statuses in order.

        Each thousand is all or nothing: after `Refused`, those before it are stored. Its errors' `index` is the place
        among all events.
        """
        return self._run(calls.publish_many(events))

    def event(self, tenant: str, source: str, id: str) -> Found:
        """Return how far an event is: its `state` and `counts`. Raises `Refused` (404) for an unknown one."""
        return self._run(calls.event("GET", tenant, source, id))

    def cancel(self, tenant: str, source: str, id: str) -> Found:
        """Cancel an event: what is not told yet never is, what is gets withdrawn. Returns its state."""
        return self._run(calls.event("DELETE", tenant, source, id))

    # --- the directory ---

    def put_tenant(self, tenant: str) -> None:
        """Make a tenant, with a key for every tenant; one that exists stays."""
        self._run(calls.put_tenant(tenant))

    def put_recipient(
        self,
        tenant: str,
        id: str,
        *,
        roles: Iterable[str] = (),
        locale: str = "en",
        attributes: Mapping[str, Any] | None = None,
    ) -> Found:
        """Register a recipient, or replace what is known of one."""
        body = {"roles": list(roles), "locale": locale, "attributes": dict(attributes or {})}
        return self._run(calls.put_recipient(tenant, id, body))

    def get_recipient(self, tenant: str, id: str) -> Found | None:
        """Return a recipient, or None for one whom the directory does not know."""
        return self._run(calls.get_recipient(tenant, id))

    def delete_recipient(self, tenant: str, id: str) -> bool:
        """Remove a person's data; returns False where the directory did not know the person (any more)."""
        return self._run(calls.delete_recipient(tenant, id))

    def import_recipients(self, rows: Iterable[Mapping[str, Any]]) -> Found:
        """Register any number of `{"tenant","id","roles","locale","attributes"}`; wrong rows are told and left out.

        Returns `created`, `updated`, `rejected`, and `errors` with each rejected row's place (`line`, from 1).
        """
        return self._run(calls.import_rows("recipients", rows, ("created", "updated", "rejected")))

    def join(self, tenant: str, topic: str, recipient: str) -> None:
        """Make a recipient a member of a topic. Raises `Refused` (404) for an unknown one."""
        self._run(calls.member("PUT", tenant, topic, recipient))

    def leave(self, tenant: str, topic: str, recipient: str) -> None:
        """End a membership. Raises `Refused` (404) for an unknown recipient."""
        self._run(calls.member("DELETE", tenant, topic, recipient))

    def change_topics(self, rows: Iterable[Mapping[str, Any]]) -> Found:
        """Change any number of memberships `{"tenant","topic","recipient","member"}`, `member` false to leave.

        Returns `changed`, `unchanged`, `rejected` and `errors`, as `import_recipients`.
        """
        return self._run(calls.import_rows("topics", rows, ("changed", "unchanged", "rejected")))

    # --- sending ---

    def _run(self, call: Call[T]) -> T:
        try:
            request = next(call)
            while True:
                try:
                    told = self._send(request)
                except Refused as refused:
                    request = call.throw(refused)
                else:
                    request = call.send(told)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, request: Request) -> Any:
        patience = Patience(self._patience)
        while True:
            answer = self._try(request)
            if answer is not None and answer.status_code not in LATER:
                return answered(answer)
            time.sleep(patience.pause(answer))

    def _try(self, request: Request) -> httpx.Response | None:
        """Return the answer, or None where the connection failed."""
        try:
            return self._http.request(**arguments(request))
        except httpx.TransportError as error:
            if not is_passing(error):
                raise
            return None
