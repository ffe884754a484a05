"""The issuer's key set: when it is fetched, what of it is used, and what happens while it is away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from structlog.contextvars import bound_contextvars, get_contextvars

from api import remote
from api.auth import header_of, subscriber_by
from api.jwks import MAX_KEYS, UNKNOWN_S, KeySet
from shared.errors import Unauthenticated, Unavailable
from tests.eventually import eventually_async
from tests.third_party import ThirdParty, third_party

OLD = rsa.generate_private_key(65537, 2048)
NEW = rsa.generate_private_key(65537, 2048)
WEAK = rsa.generate_private_key(65537, 1024)
CURVE = ec.generate_private_key(ec.SECP256R1())


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer(configured: dict[str, str]) -> Iterator[ThirdParty]:
    """An issuer that tells one key, `old`."""
    with third_party() as server:
        server.answer = {"keys": [entry(OLD, "old")]}
        yield server


def entry(key: Any, name: Any, **changes: Any) -> dict[str, Any]:
    """Return a public key as a key set tells it; a change to ... takes a member away."""
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    told = {**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig", **changes}
    return {member: value for member, value in told.items() if value is not ...}


def token(key: Any, name: Any, algorithm: str = "RS256", **header: Any) -> str:
    now = int(time.time())
    claims = {"sub": "ada", "tenant": "uni", "iat": now, "exp": now + 60, "aud": "carillon", "iss": "carillon"}
    named = {} if name is ... else {"kid": name}
    return jwt.encode(claims, key, algorithm, headers={**named, **header})


def signed_with_public_key(key: rsa.RSAPrivateKey, name: str) -> str:
    """Return a token whose HMAC is made with the public key's text, which everybody knows; PyJWT would not make it."""
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    told = token(key, name).split(".")
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": name}).encode()).rstrip(b"=")
    signed = head + b"." + told[1].encode()
    mac = base64.urlsafe_b64encode(hmac.digest(public, signed, hashlib.sha256)).rstrip(b"=")
    return (signed + b"." + mac).decode()


async def who(keys: KeySet, told: str) -> str:
    """Return whom a token speaks for, or the name of the refusal."""
    try:
        key = await keys.find(header_of(told).get("kid"))
        return subscriber_by(told, [key], keys.algorithm).recipient
    except (Unauthenticated, Unavailable) as refusal:
        return type(refusal).__name__


@asynccontextmanager
async def running(issuer: ThirdParty, algorithm: str = "RS256", clock: Clock | None = None) -> AsyncIterator[KeySet]:
    keys = KeySet(issuer.url, algorithm, clock or Clock())
    keys.start()
    try:
        yield keys
    finally:
        await keys.stop()


async def test_a_token_is_verified_with_the_key_that_it_names(issuer: ThirdParty) -> None:
    issuer.answer = {"keys": [entry(OLD, "old"), entry(NEW, "new"), entry(CURVE, "curve")]}
    async with running(issuer) as keys:
        assert await who(keys, token(OLD, "old")) == "ada"
        assert await who(keys, token(NEW, "new")) == "ada"
        assert await who(keys, token(NEW, "old")) == "Unauthenticated"
        assert await who(keys, token(NEW, ...)) == "Unauthenticated"
        assert await who(keys, token(CURVE, "curve", "ES256")) == "Unauthenticated"
    assert len(issuer.requests) == 1


async def test_a_token_without_a_name_takes_the_only_key(issuer: ThirdParty) -> None:
    async with running(issuer) as keys:
        assert await who(keys, token(OLD, "old")) == "ada"
        assert await who(keys, token(OLD, ...)) == "ada"


async def test_another_algorithm_of_the_same_key_is_refused(issuer: ThirdParty) -> None:
    async with running(issuer) as keys:
        assert await who(keys, token(OLD, "old", "RS512")) == "Unauthenticated"
        forged = signed_with_public_key(OLD, "old")
        assert await who(keys, forged) == "Unauthenticated"


async def test_keys_that_a_token_brings_along_are_not_looked_at(issuer: ThirdParty) -> None:
    async with running(issuer) as keys, _stranger() as stranger:
        brought = token(NEW, "old", jku=stranger.url, x5u=stranger.url, jwk=entry(NEW, "old"))
        assert await who(keys, brought) == "Unauthenticated"
        assert await who(keys, token(OLD, "old", jku=stranger.url)) == "ada"
        assert stranger.requests == []


@asynccontextmanager
async def _stranger() -> AsyncIterator[ThirdParty]:
    with third_party() as server:
        yield server


async def test_an_unknown_key_has_the_set_fetched_at_most_once_a_minute(issuer: ThirdParty) -> None:
    clock = Clock()
    async with running(issuer, clock=clock) as keys:
        assert await who(keys, token(OLD, "old")) == "ada"
        issuer.answer = {"keys": [entry(OLD, "old"), entry(NEW, "new")]}
        assert await who(keys, token(NEW, "new")) == "Unauthenticated"
        assert len(issuer.requests) == 1
        clock.now += UNKNOWN_S
        assert await who(keys, token(NEW, "new")) == "ada"
        for number in range(20):
            assert await who(keys, token(NEW, f"made up {number}")) == "Unauthenticated"
        assert len(issuer.requests) == 2


async def test_what_is_logged_of_a_fetch_carries_the_id_of_no_request(
    issuer: ThirdParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may wait for the same fetch, and it outlives the request that began it."""
    contexts: list[dict[str, Any]] = []

    async def away(*_request: Any) -> None:
        contexts.append(get_contextvars())
        raise remote.RemoteError("away")

    monkeypatch.setattr(remote, "ask", away)
    keys = KeySet(issuer.url, "RS256", Clock())
    with bound_contextvars(part="api", request_id="r1"):
        assert await who(keys, token(OLD, "old")) == "Unavailable"
    await keys.stop()
    assert contexts == [{"part": "api"}]


async def test_the_last_good_set_is_kept_while_the_issuer_is_away(issuer: ThirdParty) -> None:
    clock = Clock()
    async with running(issuer, clock=clock) as keys:
        assert await who(keys, token(OLD, "old")) == "ada"
        for status, answer in [(500, {}), (200, b"<html>"), (200, {"keys": []}), (200, []), (302, {})]:
            issuer.status, issuer.answer = status, answer
            issuer.headers = {"location": issuer.url} if status == 302 else {}
            clock.now += UNKNOWN_S
            asked = len(issuer.requests)
            assert await who(keys, token(NEW, "new")) == "Unavailable"
            assert await who(keys, token(OLD, "old")) == "ada"
            assert len(issuer.requests) == asked + 1


async def test_without_any_set_tokens_are_answered_by_unavailable(issuer: ThirdParty) -> None:
    issuer.status = 503
    clock = Clock()
    async with running(issuer, clock=clock) as keys:
        assert await who(keys, token(OLD, "old")) == "Unavailable"
        issuer.status = 200
        clock.now += UNKNOWN_S

        async def is_let_in() -> bool:
            return await who(keys, token(OLD, "old")) == "ada"

        await eventually_async(is_let_in)


@pytest.mark.parametrize(
    "wrong",
    [
        entry(OLD, "x", use="enc"),
        entry(OLD, "x", alg="RS512"),
        entry(OLD, 7),
        entry(WEAK, "x"),
        entry(CURVE, "x"),
        {**json.loads(RSAAlgorithm.to_jwk(OLD)), "kid": "x"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "x"},
        {"kty": "RSA", "kid": "x"},
        {"kid": "x"},
        "x",
        None,
    ],
)
async def test_keys_that_must_not_verify_are_left_out(issuer: ThirdParty, wrong: Any) -> None:
    issuer.answer = {"keys": [wrong, entry(NEW, "new")]}
    async with running(issuer) as keys:
        assert await who(keys, token(NEW, "new")) == "ada"
        assert await who(keys, token(OLD, "x")) == "Unauthenticated"


async def test_a_set_is_read_no_further_than_its_bound(issuer: ThirdParty) -> None:
    issuer.answer = {"keys": [*(entry(OLD, str(number)) for number in range(MAX_KEYS)), entry(NEW, "new")]}
    async with running(issuer) as keys:
        assert await who(keys, token(OLD, str(MAX_KEYS - 1))) == "ada"
        assert await who(keys, token(NEW, "new")) == "Unauthenticated"


async def test_elliptic_keys_verify_where_the_settings_say_so(issuer: ThirdParty) -> None:
    issuer.answer = {"keys": [entry(CURVE, "curve"), entry(OLD, "old")]}
    async with running(issuer, "ES256") as keys:
        assert await who(keys, token(CURVE, "curve", "ES256")) == "ada"
        assert await who(keys, token(OLD, "old")) == "Unauthenticated"


async def test_an_issuer_that_does_not_answer_costs_a_request_its_patience_alone(issuer: ThirdParty) -> None:
    issuer.answers.clear()
    async with running(issuer) as keys:
        began = time.monotonic()
        assert await who(keys, token(OLD, "old")) == "Unavailable"
        assert time.monotonic() - began < 5
