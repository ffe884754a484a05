"""The keys by which recipients' tokens are verified, where the settings name them: a secret, or public keys in PEM."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import InvalidKeyError, PyJWK
from jwt.algorithms import HMACAlgorithm
from jwt.utils import force_bytes

from shared.errors import StartError
from shared.settings import Settings, settings

#: NIST SP 800-131A: shorter ones are no longer to be used.
MIN_RSA_BITS = 2048
#: More than a change of keys needs; each may have to be tried for a token.
MAX_KEYS = 8
MAX_PEM_BYTES = 64 * 1024
_BLOCK = re.compile(r"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


@dataclass(frozen=True, slots=True)
class FixedKeys:
    """Keys that stay as long as the process, and the one algorithm that they are used with."""

    keys: tuple[Any, ...]
    algorithm: str


def algorithms_of(key: Any) -> tuple[str, ...]:
    """Return the algorithms that a public key fits, its usual one first; none for a key that is too weak."""
    if isinstance(key, RSAPublicKey):
        strong = key.key_size >= MIN_RSA_BITS
        return ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512") if strong else ()
    if isinstance(key, EllipticCurvePublicKey):
        return tuple(name for name, curve in _CURVES.items() if curve == key.curve.name)
    return ("EdDSA",) if isinstance(key, (Ed25519PublicKey, Ed448PublicKey)) else ()


def _read(chosen: Settings) -> FixedKeys | None:
    if chosen.jwt_secret is not None:
        algorithm = chosen.jwt_algorithm or "HS256"
        return FixedKeys((_secret(chosen.jwt_secret.get_secret_value(), algorithm),), algorithm)
    return None if chosen.jwt_public_key is None else _from_pem(chosen.jwt_public_key, chosen.jwt_algorithm)


class _Checked(HMACAlgorithm):
    """The algorithm of a secret that was looked at once, at the start, and not anew for each token (20 µs)."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """Return the secret as it is."""
        return force_bytes(key)


_HASHES = {"HS256": HMACAlgorithm.SHA256, "HS384": HMACAlgorithm.SHA384, "HS512": HMACAlgorithm.SHA512}


def _secret(secret: str, algorithm: str) -> PyJWK:
    """Return a secret as a key for tokens. Raises `StartError` for one that is a key of another kind."""
    key = PyJWK({"kty": "oct", "k": base64.urlsafe_b64encode(secret.encode()).decode()}, algorithm)
    try:
        key.Algorithm.prepare_key(secret)
    except InvalidKeyError:
        raise StartError("CARILLON_JWT_SECRET is a key: a public one goes into CARILLON_JWT_PUBLIC_KEY.") from None
    key.Algorithm = _Checked(_HASHES[algorithm])
    return key


_known: tuple[Settings, FixedKeys | None] | None = None


def fixed_keys() -> FixedKeys | None:
    """Return the keys that the settings name, read once; None where they name a key set or none.

    Raises `StartError` with one sentence for a PEM that cannot be used.
    """
    global _known  # noqa: PLW0603 - one value for the process, as the settings are
    chosen = settings()
    if _known is None or _known[0] is not chosen:
        _known = (chosen, _read(chosen))
    return _known[1]


def _wrong(what: str) -> StartError:
    return StartError(f"CARILLON_JWT_PUBLIC_KEY {what}: give it public keys in PEM, or the path of a file of them.")


def _from_pem(value: str, algorithm: str | None) -> FixedKeys:
    """Return the public keys of a PEM text, or of the file that has it."""
    text = value if value.lstrip().startswith("-----BEGIN") else _file(value)
    blocks = _BLOCK.findall(text)
    if not 0 < len(blocks) <= MAX_KEYS:
        raise _wrong(f"holds no key, or more than {MAX_KEYS}")
    keys = [_key(block) for block in blocks]
    chosen = algorithm or next(iter(algorithms_of(keys[0])), "none")
    if not all(chosen in algorithms_of(key) for key in keys):
        raise _wrong(f"holds a key that does not fit {chosen}, or an RSA key below {MIN_RSA_BITS} bits")
    return FixedKeys(tuple(keys), chosen)


def _file(path: str) -> str:
    try:
        with Path(path).open() as file:
            return file.read(MAX_PEM_BYTES)
    except (OSError, ValueError):
        raise _wrong("names a file that cannot be read") from None


def _key(block: str) -> Any:
    try:
        return load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise _wrong("holds something else than a public key") from None
