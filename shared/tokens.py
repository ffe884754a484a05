"""Recipients' tokens, made with the configured secret: for `carillon token` and the development page."""

from __future__ import annotations

import time
from collections.abc import Sequence

import jwt

from shared.errors import SettingsError
from shared.settings import settings


def make_token(tenant: str, recipient: str, roles: Sequence[str] = (), ttl_seconds: int = 3600) -> str:
    """Return a JWT for one recipient that ends after `ttl_seconds`; raises `SettingsError` without a secret."""
    secret = settings().jwt_secret
    if secret is None:
        raise SettingsError("Set CARILLON_JWT_SECRET, or start Carillon with `make up`, to make tokens.")
    now = int(time.time())
    claims = {
        "sub": recipient,
        "tenant": tenant,
        "roles": list(roles),
        "iat": now,
        "exp": now + ttl_seconds,
        "iss": settings().jwt_issuer,
        "aud": settings().jwt_audience,
    }
    return jwt.encode(claims, secret.get_secret_value(), algorithm=settings().jwt_algorithm or "HS256")
