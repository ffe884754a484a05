"""What this process knows of revocations: all of the last day's, read from PostgreSQL, told by Redis as they happen."""

from __future__ import annotations

import time

from api.auth import Subscriber
from shared import db, revocations
from shared.errors import Unauthenticated
from shared.revocations import EVERYONE, KEPT_S, Revocation
from shared.statements import arun

#: Some 20 MB. Beyond it the oldest are forgotten by making void whatever anybody was issued up to them: people sign in
#: again, and nobody whose access was revoked gets through.
MOST_KEPT = 100_000
#: Reads overlap by this: a transaction may commit some seconds after the time that its row tells.
OVERLAP_S = 60.0


class Revoked:
    """The revocations of the last day. `load` must have succeeded once before anybody is let in; `is_void` asks nobody.

    A revocation holds here as soon as Redis tells it (`note`), and at the latest with the next `load`.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._at: dict[tuple[str, str], float] = {}
        self._floor = 0.0
        self._loaded_at: float | None = None

    @property
    def is_loaded(self) -> bool:
        """True once the database told what was revoked before this process began."""
        return self._loaded_at is not None

    async def load(self) -> None:
        """Read what is new since the last time. Raises `Unavailable` when the database is away."""
        began = time.monotonic()
        since = KEPT_S if self._loaded_at is None else min(KEPT_S, began - self._loaded_at + OVERLAP_S)
        async with db.async_transaction() as connection:
            found = await arun(connection, revocations.recent(since, self._most))
        for revocation in reversed(found):
            self.note(revocation)
        if len(found) == self._most:
            self._floor = max(self._floor, found[-1].at)
        self._loaded_at = began

    def note(self, revocation: Revocation) -> None:
        """Have a revocation hold from now on. Again, or an earlier one of the same: nothing."""
        name = (revocation.tenant, revocation.recipient)
        at = max(self._at.pop(name, 0.0), revocation.at)
        self._at[name] = at
        if len(self._at) > self._most:
            self._floor = max(self._floor, self._at.pop(next(iter(self._at))))

    def forget_old(self) -> None:
        """Drop what no living token can meet."""
        oldest = time.time() - KEPT_S
        self._at = {name: at for name, at in self._at.items() if at > oldest}

    def is_void(self, who: Subscriber) -> bool:
        """Tell whether what `who` signed in with was issued before, or in the same instant as, a revocation."""
        at = max(self._at.get((who.tenant, who.recipient), 0.0), self._at.get((who.tenant, EVERYONE), 0.0), self._floor)
        return who.issued_at <= at

    async def require_valid(self, who: Subscriber) -> None:
        """Raise `Unauthenticated` for somebody whose access was revoked, `Unavailable` while that is not known."""
        if not self.is_loaded:
            await self.load()
        if self.is_void(who):
            raise Unauthenticated("Access was revoked: sign in again.")
