"""The host's own sessions: whom its cookie speaks for is asked of the host (in the manner of RFC 7662).

Only the cookie's value is sent, to one fixed address. Answers hold for 30 seconds; a host that gives none makes
requests 503, never 401: nobody is signed out because a server was restarted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Literal

from api import remote
from api.auth import MAX_LIFE_S, Subscriber, is_name, is_number
from api.tasks import end
from shared.errors import Unauthenticated, Unavailable
from shared.logs import log
from shared.recent import Recent
from shared.sessions import name_of
from shared.settings import Settings

#: A host's logout holds within this without a word from it.
KEPT_S = 30.0
MOST_KEPT = 20_000
#: Browsers keep no larger cookie.
MAX_VALUE = 4096
CONNECTIONS = 20
#: Questions under way; one more is answered by 503, so that made-up cookies do not pile up here or at the host.
MOST_ASKING = 200
#: Streams' sessions that are asked about at once, each half minute.
RECHECKS_AT_ONCE = 10
#: Names of the host's sessions begin with this; ours have only hex digits.
PREFIX = "host:"

_Answer = Subscriber | Literal["inactive"]


class Introspection:
    """Asks the host about cookies. `by_cookie` is one question for any number of requests that ask at once."""

    def __init__(self, url: str, secret: str | None) -> None:
        self._url = url
        self._headers = {"accept": "application/json"}
        if secret is not None:
            self._headers["authorization"] = f"Bearer {secret}"
        self._http = remote.client(CONNECTIONS)
        self._kept: Recent[str, _Answer] = Recent(KEPT_S, MOST_KEPT)
        self._asking: dict[str, asyncio.Task[_Answer]] = {}

    async def stop(self) -> None:
        """Give up what is under way."""
        await end(*self._asking.values())
        await self._http.aclose()

    async def by_cookie(self, value: str) -> Subscriber:
        """Return whom the host's cookie speaks for.

        Raises `Unauthenticated` where the host knows no such session, `Unavailable` where it gives no answer.
        """
        if not 0 < len(value) <= MAX_VALUE:
            raise _ended()
        name = PREFIX + name_of(value)
        answer = self._kept.get(name) or await asyncio.shield(self._ask_once(name, value))
        if not isinstance(answer, Subscriber):
            raise _ended()
        return answer

    async def ended(self, streams: Iterable[Subscriber]) -> set[str]:
        """Return the names of those sessions that the host knows no longer; without an answer, they go on."""
        room = asyncio.Semaphore(RECHECKS_AT_ONCE)
        secrets = {who.session: who.secret for who in streams if who.session.startswith(PREFIX)}

        async def has_ended(value: str) -> bool:
            async with room:
                try:
                    await self.by_cookie(value)
                except Unauthenticated:
                    return True
                except Unavailable:
                    return False
                return False

        found = await asyncio.gather(*(has_ended(value) for value in secrets.values()))
        return {name for name, is_over in zip(secrets, found, strict=True) if is_over}

    def _ask_once(self, name: str, value: str) -> asyncio.Task[_Answer]:
        known = self._asking.get(name)
        if known is not None:
            return known
        if len(self._asking) >= MOST_ASKING:
            raise Unavailable("Too many sessions are being asked about.", retry_after=1)
        task = asyncio.create_task(self._ask(name, value))
        self._asking[name] = task
        task.add_done_callback(lambda _: self._asking.pop(name, None))
        return task

    async def _ask(self, name: str, value: str) -> _Answer:
        request = self._http.build_request("POST", self._url, data={"token": value}, headers=self._headers)
        try:
            answer = _read(await remote.ask(self._http, request), name, value)
        except remote.RemoteError as error:
            log().warning("introspection.failed", reason=str(error))
            raise Unavailable("The host cannot be asked about sessions at this moment.", retry_after=1) from None
        self._kept.set(name, answer)
        return answer


def _ended() -> Unauthenticated:
    return Unauthenticated("The session has ended: sign in again.")


def _read(told: Any, name: str, value: str) -> _Answer:
    """Return what the host's answer says; raises `RemoteError` for one that is none.

    `iat` (when the session began) is needed, or a revocation could not tell old sessions from new ones. A session
    without `exp` counts for a day at most, as a token does.
    """
    if not isinstance(told, dict) or not isinstance(told.get("active"), bool):
        raise remote.RemoteError("no answer about a session")
    if not told["active"]:
        return "inactive"
    roles, latest = told.get("roles", []), time.time() + MAX_LIFE_S
    expires_at = told.get("exp", latest)
    named = is_name(told.get("sub")) and is_name(told.get("tenant")) and isinstance(roles, list)
    if not (named and all(map(is_name, roles)) and is_number(told.get("iat")) and is_number(expires_at)):
        raise remote.RemoteError("an answer without sub, tenant and iat, or with a wrong exp or roles")
    if expires_at <= time.time():
        return "inactive"
    until = min(float(expires_at), latest)
    return Subscriber(told["tenant"], told["sub"], tuple(roles), until, float(told["iat"]), name, value)


def introspection(chosen: Settings) -> Introspection | None:
    """Return how the host is asked, None where the settings name no place to ask."""
    if chosen.session_introspection_url is None:
        return None
    secret = chosen.session_introspection_secret
    return Introspection(chosen.session_introspection_url, secret.get_secret_value() if secret else None)
