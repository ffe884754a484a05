"""Who is asking: the subscriber's JWT. The one place that reads tokens.

PyJWT by itself accepts a string `exp`, an empty `sub`, any `typ` and a token of 1 MB: what it leaves open is checked
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jwt

from shared.errors import StartError, Unauthenticated
from shared.settings import settings

#: Longer tokens are refused before they are decoded.
MAX_TOKEN_BYTES = 8 * 1024
#: Clocks of issuer and server may differ by this much.
LEEWAY_S = 30
#: A token that lives longer is a password.
MAX_LIFE_S = 24 * 3600
MAX_NAME = 200
ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A recipient who proved it: `expires_at` is when that proof ends, in Unix seconds."""

    tenant: str
    recipient: str
    roles: tuple[str, ...]
    expires_at: float


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _fault(header: dict[str, Any], claims: dict[str, Any]) -> str | None:
    """Return what is wrong with a token whose signature is right; None when nothing is."""
    if str(header.get("typ", "JWT")).upper() not in ("JWT", "AT+JWT") or "crit" in header:
        return "The token is of a kind that is not accepted."
    if not _is_number(claims["exp"]) or not _is_number(claims["iat"]):
        return "The token's times must be numbers."
    if claims["exp"] - claims["iat"] > MAX_LIFE_S:
        return "The token lives too long."
    if not _is_name(claims["sub"]) or not _is_name(claims.get("tenant")):
        return "The token must name a recipient (sub) and a tenant."
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or not all(_is_name(role) for role in roles):
        return "The token's roles must be a list of names."
    return None


def subscriber_of(token: str) -> Subscriber:
    """Return whom `token` speaks for, or raise `Unauthenticated` with the reason."""
    secret = settings().jwt_secret
    if secret is None:
        raise StartError("CARILLON_JWT_SECRET is not set.")
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated("The token is too long.")
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(
            token,
            secret.get_secret_value(),
            algorithms=[ALGORITHM],
            leeway=LEEWAY_S,
            audience=settings().jwt_audience,
            issuer=settings().jwt_issuer,
            options={"require": ["exp", "iat", "sub", "aud", "iss"]},
        )
    except jwt.ExpiredSignatureError:
        raise Unauthenticated("The token has expired.") from None
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError):
        raise Unauthenticated("The token is not valid.") from None
    fault = _fault(header, claims)
    if fault is not None:
        raise Unauthenticated(fault)
    return Subscriber(claims["tenant"], claims["sub"], tuple(claims.get("roles", [])), float(claims["exp"]))


def bearer_of(authorization: str | None) -> str:
    """Return the token of an `Authorization: Bearer` header, or raise `Unauthenticated`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send a token: Authorization: Bearer <token>.")
    return token.strip()
