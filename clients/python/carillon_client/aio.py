"""The client for asyncio: the same calls, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from carillon_client import calls
from carillon_client.calls import AnyEvent, Call, Found, Request, Status, T
from carillon_client.errors import Refused
from carillon_client.retry import LATER, PATIENCE_S, Patience
from carillon_client.sending import TIMEOUT_S, answered, arguments, headers_of, is_passing


class AsyncClient:
    """As `Client`, for one event loop and any number of its tasks; give it back with `aclose` or `async with`."""

    def __init__(
        self, url: str, key: str, *, patience: float = PATIENCE_S, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=headers_of(key), timeout=TIMEOUT_S, transport=transport)
        self._patience = patience

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    # --- events ---

    async def publish(self, event: AnyEvent) -> Status:
        """Post one event; it is durable when this returns. Raises `Refused` or `Unavailable`."""
        return await self._run(calls.publish(event))

    async def publish_many(self, events: Iterable[AnyEvent]) -> list[Status]:
        """Post any number of events, as `Client.publish_many`."""
        return await self._run(calls.publish_many(events))

    async def event(self, tenant: str, source: str, id: str) -> Found:
        """Return how far an event is: its `state` and `counts`. Raises `Refused` (404) for an unknown one."""
        return await self._run(calls.event("GET", tenant, source, id))

    async def cancel(self, tenant: str, source: str, id: str) -> Found:
        """Cancel an event: what is not told yet never is, what is gets withdrawn. Returns its state."""
        return await self._run(calls.event("DELETE", tenant, source, id))

    # --- the directory ---

    async def put_tenant(self, tenant: str) -> None:
        """Make a tenant, with a key for every tenant; one that exists stays."""
        await self._run(calls.put_tenant(tenant))

    async def put_recipient(
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
        return await self._run(calls.put_recipient(tenant, id, body))

    async def get_recipient(self, tenant: str, id: str) -> Found | None:
        """Return a recipient, or None for one whom the directory does not know."""
        return await self._run(calls.get_recipient(tenant, id))

    async def delete_recipient(self, tenant: str, id: str) -> bool:
        """Remove a person's data; returns False where the directory did not know the person (any more)."""
        return await self._run(calls.delete_recipient(tenant, id))

    async def import_recipients(self, rows: Iterable[Mapping[str, Any]]) -> Found:
        """Register any number of recipients, as `Client.import_recipients`."""
        return await self._run(calls.import_rows("recipients", rows, ("created", "updated", "rejected")))

    async def join(self, tenant: str, topic: str, recipient: str) -> None:
        """Make a recipient a member of a topic. Raises `Refused` (404) for an unknown one."""
        await self._run(calls.member("PUT", tenant, topic, recipient))

    async def leave(self, tenant: str, topic: str, recipient: str) -> None:
        """End a membership. Raises `Refused` (404) for an unknown recipient."""
        await self._run(calls.member("DELETE", tenant, topic, recipient))

    async def change_topics(self, rows: Iterable[Mapping[str, Any]]) -> Found:
        """Change any number of memberships, as `Client.change_topics`."""
        return await self._run(calls.import_rows("topics", rows, ("changed", "unchanged", "rejected")))

    # --- sending ---

    async def _run(self, call: Call[T]) -> T:
        try:
            request = next(call)
            while True:
                try:
                    told = await self._send(request)
                except Refused as refused:
                    request = call.throw(refused)
                else:
                    request = call.send(told)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, request: Request) -> Any:
        patience = Patience(self._patience)
        while True:
            answer = await self._try(request)
            if answer is not None and answer.status_code not in LATER:
                return answered(answer)
            await asyncio.sleep(patience.pause(answer))

    async def _try(self, request: Request) -> httpx.Response | None:
        """Return the answer, or None where the connection failed."""
        try:
            return await self._http.request(**arguments(request))
        except httpx.TransportError as error:
            if not is_passing(error):
                raise
            return None
