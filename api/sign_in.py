"""Who is asking, among browsers: by a token in the header, by a ticket, by a session cookie. The one way in."""

from __future__ import annotations

import time
from collections.abc import Mapping

from redis.asyncio import Redis
from starlette.datastructures import Headers
from starlette.types import Scope

from api import tickets
from api.auth import Subscriber, bearer_of, header_of, subscriber_by, subscriber_of
from api.browser_sessions import BrowserSessions
from api.cross_site import cookie_of, require_json, require_own_page
from api.introspection import introspection
from api.jwks import key_set
from api.rates import Rates
from api.revoked import Revoked
from shared.errors import Unauthenticated
from shared.settings import settings


class SignIn:
    """Verifies what browsers present. Between `start` and `stop` it keeps the issuer's keys, where they are fetched."""

    def __init__(self, redis: Redis, rates: Rates) -> None:
        chosen = settings()
        self._redis, self._rates = redis, rates
        self._cookie = chosen.session_cookie
        self._keys = key_set(chosen.jwt_jwks_url, chosen.jwt_algorithm)
        self.sessions = BrowserSessions()
        self.revoked = Revoked()
        self.host = introspection(chosen)
        self._host_cookie = chosen.session_introspection_cookie

    async def start(self) -> None:
        """Begin to fetch keys."""
        if self._keys is not None:
            self._keys.start()

    async def stop(self) -> None:
        """End what was begun."""
        if self._keys is not None:
            await self._keys.stop()
        if self.host is not None:
            await self.host.stop()

    async def by_token(self, token: str) -> Subscriber:
        """Return whom a JWT speaks for. Raises `Unauthenticated`, and `Unavailable` without the issuer's keys."""
        if self._keys is None:
            who = subscriber_of(token)
        else:
            key = await self._keys.find(header_of(token).get("kid"))
            who = subscriber_by(token, [key], self._keys.algorithm)
        await self.revoked.require_valid(who)
        return who

    async def subscriber(self, scope: Scope) -> Subscriber:
        """Return who asks: by the `Authorization` header; without one by the session cookie, ours or else the host's.

        Raises `Unauthenticated`; `Forbidden` and `UnsupportedContentType` for a cookie that another page sent;
        `TooManyRequests` for somebody who asks too often.
        """
        return self._counted(scope, await self._by_header_or_cookie(scope))

    def _counted(self, scope: Scope, who: Subscriber) -> Subscriber:
        """Return `who`, known from now on to whatever tells of the request."""
        name = f"{who.tenant}/{who.recipient}"
        scope.setdefault("state", {})["actor"] = f"recipient:{name}"
        self._rates.recipients.require(name)
        return who

    async def _by_header_or_cookie(self, scope: Scope) -> Subscriber:
        headers = Headers(scope=scope)
        if (authorization := headers.get("authorization")) is not None:
            return await self.by_token(bearer_of(authorization))
        ours = cookie_of(headers, self._cookie)
        theirs = cookie_of(headers, self._host_cookie) if self._host_cookie and ours is None else None
        if ours is None and theirs is None:
            return await self.by_token(bearer_of(None))
        require_own_page(scope["method"], headers)
        require_json(scope["method"], headers)
        if self.host is not None and theirs is not None:
            return await self._checked(await self.host.by_cookie(theirs))
        return await self._checked(await self.sessions.by_cookie(ours or ""))

    async def listener(self, scope: Scope, asked: Mapping[str, str]) -> Subscriber:
        """Return who opens a stream: by header, else by ticket, else by a token in the query where that is allowed,
        else by cookie. Raises as `subscriber`.
        """
        if Headers(scope=scope).get("authorization") is None:
            if "ticket" in asked:
                return self._counted(scope, await self._redeemed(asked["ticket"]))
            if "token" in asked:
                if not settings().allow_token_in_query:
                    raise Unauthenticated("A token in the address is not accepted here: use a header or a ticket.")
                return self._counted(scope, await self.by_token(asked["token"]))
        return await self.subscriber(scope)

    async def _redeemed(self, ticket: str) -> Subscriber:
        """Return whom a ticket speaks for, unless what it was made with has ended since."""
        who = await tickets.redeem(self._redis, ticket)
        if self.host is not None and who.secret:
            await self.host.by_cookie(who.secret)
        elif who.session:
            await self.sessions.by_name(who.session)
        return await self._checked(who)

    async def _checked(self, who: Subscriber) -> Subscriber:
        if who.expires_at <= time.time():
            raise Unauthenticated("What you signed in with has expired.")
        await self.revoked.require_valid(who)
        return who
