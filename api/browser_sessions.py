"""The sessions of browsers as this process knows them: asked for at most every ten seconds, ended at once."""

from __future__ import annotations

from api.auth import Subscriber
from shared import db, sessions
from shared.databases import SHARED
from shared.errors import Unauthenticated
from shared.recent import Recent
from shared.statements import arun

#: A session that was found is not asked for again within this, unless Redis tells its end.
FOUND_S = 10.0
MOST_FOUND = 20_000
#: For so long an answer of the database that was under way when a session ended is not believed.
ENDED_S = 60.0


class BrowserSessions:
    """Finds whom a session's name speaks for."""

    def __init__(self) -> None:
        self._found: Recent[str, Subscriber] = Recent(FOUND_S, MOST_FOUND)
        self._ended: Recent[str, bool] = Recent(ENDED_S, MOST_FOUND)

    async def by_cookie(self, value: str) -> Subscriber:
        """Return whom a cookie's value speaks for, or raise `Unauthenticated`; `Unavailable` without a database."""
        if not 0 < len(value) <= sessions.MAX_ID:
            raise _unknown()
        return await self.by_name(sessions.name_of(value))

    async def by_name(self, name: str) -> Subscriber:
        """Return whom the session speaks for, or raise `Unauthenticated`; `Unavailable` without a database."""
        who = None if self._ended.get(name) else self._found.get(name)
        if who is None:
            async with db.async_transaction(credentials=[name]) as connection:
                found = await arun(connection, sessions.find(name))
            if found is None or self._ended.get(name):
                raise _unknown()
            who = _subscriber(found)
            self._found.set(name, who)
        return who

    def end(self, name: str) -> None:
        """Forget a session that has ended."""
        self._ended.set(name, True)

    async def create(self, who: Subscriber) -> str:
        """Begin a session that speaks for `who` until the proof ends that it is made from; returns the cookie's value.

        Raises `Unavailable` without a database.
        """
        async with db.async_transaction(who.tenant, database=SHARED) as connection:
            return await arun(connection, sessions.create(who.tenant, who.recipient, who.roles, who.expires_at))


def _unknown() -> Unauthenticated:
    return Unauthenticated("The session has ended: sign in again.")


def _subscriber(found: sessions.Session) -> Subscriber:
    return Subscriber(found.tenant, found.recipient, found.roles, found.expires_at, found.created_at, found.name)
