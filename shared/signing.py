"""Signing secrets and what is signed with them: Standard Webhooks (also over Celery) and GitHub's webhooks.

A secret verifies an HMAC, so it cannot be hashed: it is stored encrypted (AES-256-GCM under `CARILLON_SECRET_KEY`,
bound to its id, purpose and tenant) and shown once. A tenant may have several live ones for a purpose, to rotate them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, text

from shared import audit
from shared.audit import Entry
from shared.errors import SettingsError, Unauthenticated
from shared.logs import log
from shared.settings import settings
from shared.statements import Program, Row, run

Purpose = Literal["celery", "github", "standard"]
_SECRET_BYTES = 32
#: What AES-GCM takes; random ones may repeat after 2**32 secrets under one key.
_NONCE_BYTES = 12
_ID_BYTES = 8
#: Standard Webhooks writes secrets as this and base64.
_STANDARD_PREFIX = "whsec_"
#: Standard Webhooks: how old or early a signed time may be, in seconds.
TOLERANCE_S = 300
#: More signatures in one header than any rotation needs.
_MAX_SIGNATURES = 10
#: Digits of a Unix time in seconds, with room for all that clocks will show.
_MAX_TIMESTAMP = 12


def _cipher() -> AESGCM:
    configured = settings().secret_key
    if configured is None:
        raise SettingsError("Set CARILLON_SECRET_KEY, or start Carillon with `make up`, to use signing secrets.")
    return AESGCM(base64.urlsafe_b64decode(configured.get_secret_value()))


def _bound(id: str, purpose: str, tenant: str) -> bytes:
    return f"{id}\n{purpose}\n{tenant}".encode()


def encrypt(secret: str, id: str, purpose: str, tenant: str) -> bytes:
    """Return what is stored of a secret. Raises `SettingsError` without a usable `CARILLON_SECRET_KEY`."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher().encrypt(nonce, secret.encode(), _bound(id, purpose, tenant))


def decrypt(row: Row) -> str | None:
    """Return the secret of a row; None where it was encrypted under another key, or for another row."""
    sealed = bytes(row["ciphertext"])
    bound = _bound(row["id"], row["purpose"], row["tenant"])
    try:
        return _cipher().decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound).decode()
    except InvalidTag:
        log().error("secret.undecipherable", secret_id=row["id"])
        return None


_CREATE = text("""
    INSERT INTO signing_secrets (id, purpose, tenant, ciphertext) VALUES (:id, :purpose, :tenant, :ciphertext)""")
_REVOKE = text("""
    UPDATE signing_secrets SET revoked_at = clock_timestamp() WHERE id = :id AND revoked_at IS NULL RETURNING id""")
_LIVE = text("""
    SELECT id, purpose, tenant, ciphertext FROM signing_secrets
    WHERE tenant = :tenant AND purpose = :purpose AND revoked_at IS NULL ORDER BY created_at DESC, id""")
_ONE = text("""
    SELECT id, purpose, tenant, ciphertext FROM signing_secrets
    WHERE id = :id AND purpose = :purpose AND revoked_at IS NULL""")


def create_secret(connection: Connection, purpose: Purpose, tenant: str) -> tuple[str, str]:
    """Store a new secret of a tenant that exists; returns its id and the secret, which is never shown again."""
    id = f"sec_{secrets.token_hex(_ID_BYTES)}"
    random = secrets.token_bytes(_SECRET_BYTES)
    secret = random.hex() if purpose == "github" else _STANDARD_PREFIX + base64.b64encode(random).decode()
    row = {"id": id, "purpose": purpose, "tenant": tenant, "ciphertext": encrypt(secret, id, purpose, tenant)}
    connection.execute(_CREATE, row)
    run(connection, audit.record(Entry(audit.operator(), "secret.created", tenant, id, details={"purpose": purpose})))
    log().info("secret.created", secret_id=id, purpose=purpose, tenant=tenant)
    return id, secret


def revoke_secret(connection: Connection, id: str) -> bool:
    """Revoke a secret; returns False where there is no live one."""
    revoked = connection.execute(_REVOKE, {"id": id}).first() is not None
    if revoked:
        run(connection, audit.record(Entry(audit.operator(), "secret.revoked", subject=id)))
        log().info("secret.revoked", secret_id=id)
    return revoked


def secrets_of(tenant: str, purpose: Purpose) -> Program[list[str]]:
    """Select the tenant's live secrets for a purpose, newest first; none for an unknown tenant."""
    rows = yield _LIVE, {"tenant": tenant, "purpose": purpose}
    return [secret for secret in map(decrypt, rows) if secret is not None]


def secret_called(id: str, purpose: Purpose) -> Program[tuple[str, str] | None]:
    """Select one live secret by its id: its tenant and the secret, or None."""
    rows = yield _ONE, {"id": id, "purpose": purpose}
    secret = decrypt(rows[0]) if rows else None
    return None if secret is None else (rows[0]["tenant"], secret)


@dataclass(frozen=True, slots=True)
class Signed:
    """The three headers of Standard Webhooks: `signatures` may be several, apart by blanks, of which one must fit."""

    id: str
    timestamp: str
    signatures: str


def signed_by(headers: Mapping[str, Any]) -> Signed:
    """Return the signature that `headers` (lower-case names) carry; raises `Unauthenticated` where one is missing."""
    values = [headers.get(name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")]
    if not all(isinstance(value, str) and value for value in values):
        raise Unauthenticated("Sign the message: webhook-id, webhook-timestamp, webhook-signature.")
    return Signed(*(str(value) for value in values))


def standard_signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Return the Standard Webhooks signature (`v1,<base64>`) of a message."""
    key = base64.b64decode(secret.removeprefix(_STANDARD_PREFIX))
    signed = b"%s.%d.%s" % (_bytes(id), timestamp, body)
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def verify_standard(found: Iterable[str], signed: Signed, body: bytes, max_age_s: int = TOLERANCE_S) -> None:
    """Return if one of the secrets signed the message, not more than `max_age_s` ago (or 5 min ahead).

    Raises `Unauthenticated` otherwise.
    """
    told = signed.timestamp
    if not (told.isascii() and told.isdecimal() and len(told) <= _MAX_TIMESTAMP):
        raise Unauthenticated("The signature's time is not valid.")
    timestamp = int(told)
    age = time.time() - timestamp
    if age > max_age_s or age < -TOLERANCE_S:
        raise Unauthenticated("The signature's time is too far from now.")
    expected = [standard_signature(secret, signed.id, timestamp, body) for secret in found]
    _require_one(expected, signed.signatures.split()[:_MAX_SIGNATURES])


def verify_github(found: Iterable[str], signature: str, body: bytes) -> None:
    """Return if one of the secrets made `signature` (`X-Hub-Signature-256`), or raise `Unauthenticated`."""
    digests = (hmac.digest(secret.encode(), body, hashlib.sha256).hex() for secret in found)
    _require_one([f"sha256={digest}" for digest in digests], [signature])


def _require_one(expected: list[str], given: list[str]) -> None:
    """Compare every pair, each in constant time: the time taken tells nothing of what was right in any of them."""
    fitting = [hmac.compare_digest(_bytes(mine), _bytes(yours)) for mine in expected for yours in given]
    if not any(fitting):
        raise Unauthenticated("The signature is not valid.")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
