"""Refused requests: who may not even try again at once, and what of it the audit log keeps.

An address is limited in failed attempts alone: a campus sits behind one, and whoever has valid credentials gets through
however many of its neighbours fail.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from starlette.types import Scope

from api.address import address_of
from api.rates import Rates
from api.tasks import pause
from shared import audit, db
from shared.audit import Entry
from shared.errors import CarillonError, Forbidden, TooManyRequests, Unauthenticated
from shared.logs import log
from shared.statements import arun

#: The first refusal after a quiet time is written after this, so that what is refused along with it is one row.
FIRST_S = 1.0
#: Then at most once in this time: an attack fills neither the table nor the disk.
EVERY_S = 60.0
#: Different refusals in that time; all others together are one row more.
MOST_DIFFERENT = 100
ANYBODY = "anybody"
OTHERS = ("others", ANYBODY, "many", "many")


class Denied:
    """What this process refuses, between `start` and `stop`."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._counted: Counter[tuple[str, str, str, str]] = Counter()
        self._some, self._stopping = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what is left, and end: a connection whose making is cancelled would stay half open."""
        self._stopping.set()
        self._some.set()
        if self._task is not None:
            await self._task

    def judged(self, scope: Scope, error: CarillonError) -> CarillonError:
        """Return what a refused request is answered: `error`, or `TooManyRequests` for failures that are too many."""
        if not isinstance(error, (Unauthenticated, Forbidden)):
            return error
        address = address_of(scope)
        self._note(scope, error, address)
        seconds = self._rates.addresses.over(address) if isinstance(error, Unauthenticated) else None
        if seconds is None:
            return error
        return TooManyRequests("Too many failed attempts from your address.", retry_after=seconds)

    def _note(self, scope: Scope, error: CarillonError, address: str) -> None:
        # The route, not the path: what somebody put into a path may be a secret.
        route = getattr(scope.get("route"), "path", "unknown")
        actor = scope.get("state", {}).get("actor", ANYBODY)
        what = (f"{error.status} {scope['method']} {route}", actor, error.slug(), address)
        if what not in self._counted and len(self._counted) >= MOST_DIFFERENT:
            what = OTHERS
        self._counted[what] += 1
        self._some.set()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self._some.wait()
            await pause(self._stopping, FIRST_S)
            await self._write()
            await pause(self._stopping, EVERY_S)
        await self._write()

    async def _write(self) -> None:
        """Write what was counted; with the database away it is logged and given up."""
        counted, self._counted = self._counted, Counter()
        self._some.clear()
        if not counted:
            return
        entries = [
            Entry(who, "access.denied", None, subject, address, {"problem": problem, "times": times})
            for (subject, who, problem, address), times in counted.items()
        ]
        try:
            async with db.async_transaction() as connection:
                await arun(connection, audit.record(*entries))
        except Exception as failure:
            log().error("denied.not_recorded", reason=type(failure).__name__, times=counted.total())
