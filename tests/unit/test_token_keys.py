"""Public keys that the settings name: which algorithm they are for, and which are refused before the start."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from api.auth import subscriber_of
from api.token_keys import fixed_keys
from shared.errors import SettingsError, StartError, Unauthenticated
from shared.settings import load_settings, settings

RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
WEAK = rsa.generate_private_key(65537, 1024)
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CARILLON_DATA_DIR", str(tmp_path))


def pem(*keys: Any) -> str:
    return "".join(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in keys
    )


def private(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def use(monkeypatch: pytest.MonkeyPatch, key: str, algorithm: str | None = None) -> None:
    monkeypatch.setenv("CARILLON_JWT_PUBLIC_KEY", key)
    if algorithm:
        monkeypatch.setenv("CARILLON_JWT_ALGORITHM", algorithm)
    settings.cache_clear()


def token(key: Any, algorithm: str, **header: Any) -> str:
    now = int(time.time())
    claims = {"sub": "ada", "tenant": "uni", "iat": now, "exp": now + 60, "aud": "carillon", "iss": "carillon"}
    return jwt.encode(claims, key, algorithm, headers=header)


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (P256, "ES256"), (P384, "ES384"), (ED, "EdDSA")], ids=str
)
def test_a_public_key_verifies_with_the_algorithm_that_fits_it(
    monkeypatch: pytest.MonkeyPatch, key: Any, algorithm: str
) -> None:
    use(monkeypatch, pem(key))
    assert subscriber_of(token(key, algorithm)).recipient == "ada"
    with pytest.raises(Unauthenticated):
        subscriber_of(token(OTHER, "RS256"))


def test_only_the_one_algorithm_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, pem(RSA), "PS256")
    assert subscriber_of(token(RSA, "PS256")).recipient == "ada"
    with pytest.raises(Unauthenticated):
        subscriber_of(token(RSA, "RS256"))


def test_while_keys_change_two_are_accepted_whatever_the_token_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "keys.pem"
    file.write_text(pem(RSA, OTHER))
    use(monkeypatch, str(file))
    for key in (RSA, OTHER):
        assert subscriber_of(token(key, "RS256", kid="../../etc/passwd", jku="https://evil.example")).recipient == "ada"


@pytest.mark.parametrize(
    ("value", "algorithm", "words"),
    [
        ("/nowhere/keys.pem", None, "names a file that cannot be read"),
        ("-----BEGIN PUBLIC KEY-----", None, "holds no key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", None, "holds something else than a public key"),
        (private(RSA), None, "holds something else than a public key"),
        (pem(WEAK), None, "does not fit"),
        (pem(RSA), "ES256", "does not fit ES256"),
        (pem(RSA, P256), None, "does not fit RS256"),
        (pem(*[P256] * 9), None, "more than 8"),
    ],
)
def test_a_key_that_cannot_be_used_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, value: str, algorithm: str | None, words: str
) -> None:
    use(monkeypatch, value, algorithm)
    with pytest.raises(StartError, match=words) as refused:
        fixed_keys()
    assert "CARILLON_JWT_PUBLIC_KEY" in str(refused.value)
    assert "MII" not in str(refused.value)


LONG = "kP3vXq9Z-u7TbWm2_LsYd8RfGh5NcJeA"


@pytest.mark.parametrize("secret", [pem(RSA), private(P256)])
def test_a_secret_that_is_a_key_stops_the_start(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.delenv("CARILLON_JWT_PUBLIC_KEY", raising=False)
    monkeypatch.setenv("CARILLON_JWT_SECRET", secret)
    settings.cache_clear()
    with pytest.raises(StartError, match="CARILLON_JWT_SECRET is a key") as refused:
        fixed_keys()
    assert "BEGIN" not in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"JWT_SECRET": LONG, "JWT_PUBLIC_KEY": "x"}, "CARILLON_JWT_SECRET and CARILLON_JWT_PUBLIC_KEY are both set"),
        ({"JWT_JWKS_URL": "https://a.example/k", "JWT_ALGORITHM": "HS256"}, "HS256 does not go with CARILLON_JWT_JWKS"),
        ({"JWT_SECRET": LONG, "JWT_ALGORITHM": "RS256"}, "RS256 does not go with CARILLON_JWT_SECRET"),
        (
            {"JWT_SECRET": LONG, "JWT_ALGORITHM": "HS512"},
            "JWT_SECRET must be at least 64 bytes long for HS512",
        ),
        ({"JWT_SECRET": LONG, "JWT_ALGORITHM": "none"}, "CARILLON_JWT_ALGORITHM: Input should be 'HS256'"),
        ({"JWT_JWKS_URL": "http://a.example/k"}, "CARILLON_JWT_JWKS_URL must be a URL such as https://"),
        ({"JWT_JWKS_URL": "https://user:pw@a.example/k"}, "CARILLON_JWT_JWKS_URL must be a URL such as https://"),
        ({"JWT_JWKS_URL": "file:///etc/keys"}, "CARILLON_JWT_JWKS_URL must be a URL such as https://"),
        ({"ALLOWED_ORIGINS": "*"}, "CARILLON_ALLOWED_ORIGINS: must name each origin"),
        ({"ALLOWED_ORIGINS": "https://a.example,*"}, "CARILLON_ALLOWED_ORIGINS: must name each origin"),
        ({"ALLOWED_ORIGINS": "null"}, "CARILLON_ALLOWED_ORIGINS: must be origins such as https://app.example"),
        ({"ALLOWED_ORIGINS": "https://a.example/"}, "CARILLON_ALLOWED_ORIGINS: must be origins"),
        ({"ALLOWED_ORIGINS": "a.example"}, "CARILLON_ALLOWED_ORIGINS: must be origins"),
        ({"ALLOWED_ORIGINS": "https://*.example"}, "CARILLON_ALLOWED_ORIGINS: must be origins"),
        ({"COOKIE_NAME": "a b"}, "CARILLON_COOKIE_NAME: String should match"),
        ({"COOKIE_NAME": "a;b"}, "CARILLON_COOKIE_NAME: String should match"),
    ],
)
def test_settings_that_would_let_somebody_in_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"CARILLON_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert words in str(refused.value)
    assert LONG not in str(refused.value)


PRODUCTION = {
    "CARILLON_ENVIRONMENT": "production",
    "CARILLON_DATABASE_URL": "postgresql://u:p@h/d",
    "CARILLON_REDIS_URL": "redis://h",
    "CARILLON_BROKER_URL": "redis://h",
    "CARILLON_SECRET_KEY": "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=",
    "CARILLON_FLOWER_PASSWORD": "kP3vXq9Zu7TbWm2L",
    "CARILLON_JWT_SECRET": LONG,
}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CARILLON_JWT_SECRET", None, "one of CARILLON_JWT_SECRET, CARILLON_JWT_PUBLIC_KEY and CARILLON_JWT_JWKS_URL"),
        ("CARILLON_JWT_SECRET", "change-me-change-me-change-me-change-me", "CARILLON_JWT_SECRET of its own"),
        ("CARILLON_JWT_SECRET", "abababababababababababababababababab", "CARILLON_JWT_SECRET of its own"),
        ("CARILLON_SECRET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "CARILLON_SECRET_KEY of its own"),
        ("CARILLON_FLOWER_PASSWORD", "password", "CARILLON_FLOWER_PASSWORD of its own"),
        ("CARILLON_COOKIE_NAME", "carillon", "a CARILLON_COOKIE_NAME that begins with __Host-"),
        ("CARILLON_LOG_LEVEL", "debug", "production does not run with CARILLON_LOG_LEVEL debug"),
        ("CARILLON_REDIS_URL", None, "production needs CARILLON_REDIS_URL to be set"),
    ],
)
def test_production_refuses_what_a_laptop_may_have(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, words: str
) -> None:
    for known, told in PRODUCTION.items():
        monkeypatch.setenv(known, told)
    assert load_settings().session_cookie == "__Host-carillon"
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert words in str(refused.value)


def publish(folder: Path, **environment: str) -> None:
    """Have a `carillon up` run (this process, here) that publishes these settings."""
    (folder / "runtime.json").write_text(json.dumps({"pid": os.getpid(), "environment": environment}))


def test_production_takes_nothing_of_a_laptops_running_carillon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(tmp_path, CARILLON_ENVIRONMENT="development", CARILLON_JWT_SECRET=LONG)
    assert load_settings().jwt_secret is not None
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CARILLON_JWT_SECRET")
    with pytest.raises(SettingsError, match="production needs one of CARILLON_JWT_SECRET"):
        load_settings()


def test_a_laptops_secret_does_not_stand_beside_a_key_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    publish(tmp_path, CARILLON_JWT_SECRET=LONG)
    monkeypatch.setenv("CARILLON_JWT_JWKS_URL", "http://127.0.0.1:9/keys")
    assert load_settings().jwt_secret is None
