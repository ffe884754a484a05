"""Who is asking: the subscriber's JWT. The one place that reads tokens.

PyJWT by itself accepts a string `exp`, an empty `sub`, any `typ` and a token of 1 MB: what it leaves open is checked
here. The algorithm comes from the settings, never from the token; `jku`, `x5u` and `jwk` are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt

from api.token_keys import fixed_keys
from shared.errors import StartError, Unauthenticated
from shared.settings import settings

#: Longer tokens are refused before they are decoded.
MAX_TOKEN_BYTES = 8 * 1024
#: Clocks of issuer and server may differ by this much.
LEEWAY_S = 30
#: A token that lives longer is a password.
MAX_LIFE_S = 24 * 3600
MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A recipient who proved it: `expires_at` is when that proof ends, `issued_at` when it was made, in Unix seconds.

    `session` is the name of the session behind it, empty where a token speaks for itself; `secret` is the host's own
    cookie, by which the host is asked again.
    """

    tenant: str
    recipient: str
    roles: tuple[str, ...]
    expires_at: float
    issued_at: float
    session: str = ""
    secret: str = field(default="", repr=False)


def is_number(value: Any) -> bool:
    """Tell whether a claim can be a time: in Python `True` is an integer, too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_name(value: Any) -> bool:
    """Tell whether a claim can name somebody or something."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _fault(header: dict[str, Any], claims: dict[str, Any]) -> str | None:
    """Return what is wrong with a token whose signature is right; None when nothing is."""
    if str(header.get("typ", "JWT")).upper() not in ("JWT", "AT+JWT") or "crit" in header:
        return "The token is of a kind that is not accepted."
    if not is_number(claims["exp"]) or not is_number(claims["iat"]):
        return "The token's times must be numbers."
    if claims["exp"] - claims["iat"] > MAX_LIFE_S:
        return "The token lives too long."
    if not is_name(claims["sub"]) or not is_name(claims.get("tenant")):
        return "The token must name a recipient (sub) and a tenant."
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or not all(is_name(role) for role in roles):
        return "The token's roles must be a list of names."
    return None


def header_of(token: str) -> dict[str, Any]:
    """Return the header of a token that nothing vouches for yet; raises `Unauthenticated` where it has none."""
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated("The token is too long.")
    try:
        return jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError):
        raise Unauthenticated("The token is not valid.") from None


def subscriber_by(token: str, keys: Sequence[Any], algorithm: str) -> Subscriber:
    """Return whom `token` speaks for, signed with one of `keys`, or raise `Unauthenticated` with the reason."""
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated("The token is too long.")
    for key in keys:
        try:
            header, claims = _claims(token, key, algorithm)
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired.") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
            continue
        fault = _fault(header, claims)
        if fault is not None:
            raise Unauthenticated(fault)
        roles = tuple(claims.get("roles", []))
        return Subscriber(claims["tenant"], claims["sub"], roles, float(claims["exp"]), float(claims["iat"]))
    raise Unauthenticated("The token is not valid.")


def _claims(token: str, key: Any, algorithm: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a token's header and claims, both vouched for by its signature."""
    read = jwt.decode_complete(
        token,
        key,
        algorithms=[algorithm],
        leeway=LEEWAY_S,
        audience=settings().jwt_audience,
        issuer=settings().jwt_issuer,
        options={"require": ["exp", "iat", "sub", "aud", "iss"]},
    )
    return read["header"], read["payload"]


def subscriber_of(token: str) -> Subscriber:
    """Return whom `token` speaks for, by the keys that the settings name, or raise `Unauthenticated` with the reason.

    Raises `StartError` where the settings name a key set (`api/jwks.py`) or nothing at all.
    """
    known = fixed_keys()
    if known is None:
        raise StartError("CARILLON_JWT_SECRET is not set.")
    return subscriber_by(token, known.keys, known.algorithm)


def bearer_of(authorization: str | None) -> str:
    """Return the token of an `Authorization: Bearer` header, or raise `Unauthenticated`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send a token: Authorization: Bearer <token>.")
    return token.strip()
