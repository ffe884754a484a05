"""Producer keys: `ck_<prefix>_<secret>`, shown once, stored as a prefix and the secret's SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from shared.errors import FieldError, InvalidInput, Unauthenticated
from shared.statements import Program, Row

SCOPES = frozenset({"events:write", "directory:write", "ops:read", "ops:write"})
#: A prefix is a name, not a secret: long enough that a million keys do not meet by chance.
_PREFIX_BYTES = 8
_SECRET_BYTES = 32
_FORM = re.compile(r"ck_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
#: When a key was last used is known to the minute: not every request writes.
_USE_S = 60


@dataclass(frozen=True, slots=True)
class ProducerKey:
    """A key that was verified. `tenants` None means every tenant."""

    prefix: str
    tenants: frozenset[str] | None
    scopes: frozenset[str]

    @property
    def actor(self) -> str:
        """Return the key's name in the audit log."""
        return f"key:{self.prefix}"

    def may(self, scope: str) -> bool:
        """Tell whether the key has the scope."""
        return scope in self.scopes

    def may_use(self, tenant: str) -> bool:
        """Tell whether the key may act for the tenant."""
        return self.tenants is None or tenant in self.tenants


def digest(secret: str) -> bytes:
    """Return what is stored of a secret: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def make_key(tenants: Sequence[str] | None, scopes: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return a new key as it is printed, and its row. Raises `InvalidInput` for an unknown scope, or none."""
    unknown = sorted(set(scopes) - SCOPES)
    if unknown or not scopes:
        message = f"must be some of {', '.join(sorted(SCOPES))}"
        raise InvalidInput(errors=(FieldError("scopes", message),))
    prefix, secret = secrets.token_hex(_PREFIX_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    row = {
        "prefix": prefix,
        "secret_hash": digest(secret),
        "tenants": None if tenants is None else sorted(set(tenants)),
        "scopes": sorted(set(scopes)),
        "family": prefix,
    }
    return f"ck_{prefix}_{secret}", row


def prefix_of(printed: str) -> str:
    """Return the prefix of a printed key, by which it is listed and revoked. Raises `Unauthenticated` for no key."""
    return _parts(printed)[0]


def _parts(printed: str) -> tuple[str, str]:
    match = _FORM.fullmatch(printed)
    if match is None:
        raise Unauthenticated("The producer key is not valid.")
    return match[1], match[2]


_FIND = text("""
    SELECT prefix, secret_hash, tenants, scopes, revoked_at,
           coalesce(expires_at <= clock_timestamp(), false) AS expired,
           coalesce(last_used_at < clock_timestamp() - make_interval(secs => :use_s), true) AS unused
    FROM producer_keys WHERE prefix = :prefix""")
_USED = text("""
    UPDATE producer_keys SET last_used_at = clock_timestamp() WHERE prefix = :prefix
      AND coalesce(last_used_at < clock_timestamp() - make_interval(secs => :use_s), true)""")


def verify(printed: str) -> Program[ProducerKey]:
    """Return the live key that `printed` is; raises `Unauthenticated`, with one answer for every reason."""
    prefix, secret = _parts(printed)
    rows = yield _FIND, {"prefix": prefix, "use_s": _USE_S}
    verified = _verified(rows[0] if rows else None, secret)
    if rows[0]["unused"]:
        yield _USED, {"prefix": prefix, "use_s": _USE_S}
    return verified


def _verified(row: Row | None, secret: str) -> ProducerKey:
    known = bytes(row["secret_hash"]) if row is not None else digest("")
    is_right = hmac.compare_digest(known, digest(secret))
    if row is None or not is_right or row["revoked_at"] is not None or row["expired"]:
        raise Unauthenticated("The producer key is not valid.")
    tenants = None if row["tenants"] is None else frozenset(row["tenants"])
    return ProducerKey(row["prefix"], tenants, frozenset(row["scopes"]))
