"""Tickets: single-use tokens for a stream that can set no header, kept in Redis as their hash for some seconds."""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from dataclasses import astuple, replace

import orjson
from redis.asyncio import Redis

from api.auth import Subscriber
from shared.errors import Unauthenticated, Unavailable
from shared.signing import decrypt, encrypt
from shared.stream_redis import AWAY

#: Long enough to open a stream at once, too short for a ticket from a log to be of use.
LIFE_S = 30
TICKET_BYTES = 32
#: `TICKET_BYTES` in url-safe base64; a longer value is not looked up.
MAX_TICKET = 64
_PURPOSE = "ticket"


def _key(ticket: str) -> str:
    return f"carillon:ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"


def _sealed(who: Subscriber) -> str:
    """Return the host's cookie as it may lie in Redis: encrypted, and bound to whom it speaks for."""
    return encrypt(who.secret, who.session, _PURPOSE, who.tenant).hex() if who.secret else ""


def _opened(who: Subscriber, sealed: str) -> str:
    row = {"ciphertext": bytes.fromhex(sealed), "id": who.session, "purpose": _PURPOSE, "tenant": who.tenant}
    secret = decrypt(row)
    if secret is None:
        raise Unauthenticated("The ticket is not valid.")
    return secret


async def issue(redis: Redis, who: Subscriber) -> str:
    """Return a ticket that speaks for `who` once, within `LIFE_S` and no longer than the token that it stands for.

    Raises `Unavailable` when Redis is away.
    """
    ticket = secrets.token_urlsafe(TICKET_BYTES)
    life = min(LIFE_S, math.ceil(who.expires_at - time.time()))
    value = orjson.dumps([*astuple(replace(who, secret="")), _sealed(who)])
    try:
        await redis.set(_key(ticket), value, ex=max(1, life))
    except AWAY:
        raise Unavailable("Tickets cannot be made at this moment.", retry_after=1) from None
    return ticket


async def redeem(redis: Redis, ticket: str) -> Subscriber:
    """Return whom `ticket` speaks for, and end it. Raises `Unauthenticated` for one that is spent, old or unknown."""
    if len(ticket) > MAX_TICKET:
        raise Unauthenticated("The ticket is not valid.")
    try:
        value = await redis.getdel(_key(ticket))
    except AWAY:
        raise Unavailable("Tickets cannot be checked at this moment.", retry_after=1) from None
    if value is None:
        raise Unauthenticated("The ticket is not valid: it may be spent or older than 30 seconds.")
    tenant, recipient, roles, expires_at, issued_at, session, _, sealed = orjson.loads(value)
    who = Subscriber(tenant, recipient, tuple(roles), expires_at, issued_at, session)
    return replace(who, secret=_opened(who, sealed)) if sealed else who
