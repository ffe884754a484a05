"""Who is asking, among producers: the key in `Authorization: Bearer`, its scopes and its tenants."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api.auth import bearer_of
from api.rates import Rates
from shared import db, keys
from shared.errors import FieldError, Forbidden
from shared.keys import ProducerKey
from shared.logs import log
from shared.recent import Recent
from shared.statements import arun

#: A key that was verified is not asked for again within this: a revoked one is refused at the latest after it.
VERIFIED_S = 10.0
#: Keys of one process's producers; beyond it the oldest is verified anew.
MAX_VERIFIED = 1_000


class Verifier:
    """Verifies keys, asking the database about each at most once in 10 s. Only right keys are remembered, hashed."""

    def __init__(self) -> None:
        self._recent: Recent[bytes, ProducerKey] = Recent(VERIFIED_S, MAX_VERIFIED)

    async def verify(self, printed: str) -> ProducerKey:
        """Return the live key, or raise `Unauthenticated`."""
        name = keys.digest(printed)
        known = self._recent.get(name)
        if known is None:
            async with db.async_transaction(credentials=[keys.prefix_of(printed)]) as connection:
                known = await arun(connection, keys.verify(printed))
            self._recent.set(name, known)
        return known

    def forget(self) -> None:
        """Ask about every key anew from now on."""
        self._recent.clear()


def _verifier(request: Request) -> Verifier:
    state = request.app.state
    if not hasattr(state, "verifier"):
        state.verifier = Verifier()
    verifier: Verifier = state.verifier
    return verifier


class RequireScope:
    """A dependency: the producer's key, if it has one scope. Raises `Unauthenticated` (401) and `Forbidden` (403)."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    async def __call__(self, request: Request) -> ProducerKey:
        key = await _verifier(request).verify(bearer_of(request.headers.get("authorization")))
        request.state.actor = key.actor
        rates: Rates = request.app.state.rates
        rates.producers.require(key.prefix)
        if not key.may(self._scope):
            log().warning("access.denied", prefix=key.prefix, scope=self._scope)
            raise Forbidden(f"The key lacks the scope {self._scope}.")
        return key


def require_tenant(key: ProducerKey, tenant: str, index: int | None = None) -> None:
    """Raise `Forbidden`, naming `tenant`, unless the key may act for it."""
    if not key.may_use(tenant):
        log().warning("access.denied", prefix=key.prefix, tenant=tenant)
        told = (FieldError("tenant", "is not one that this key may use", index),)
        raise Forbidden("The key may not act for this tenant.", errors=told)


EventsKey = Annotated[ProducerKey, Depends(RequireScope("events:write"))]
DirectoryKey = Annotated[ProducerKey, Depends(RequireScope("directory:write"))]
OperatorKey = Annotated[ProducerKey, Depends(RequireScope("ops:read"))]
