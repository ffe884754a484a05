"""Tokens that were tampered with: not one is believed, and nothing but a refusal comes of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.auth import MAX_LIFE_S, MAX_NAME, subscriber_of
from shared.errors import Unauthenticated
from shared.tokens import make_token
from tests.conftest import _forget_settings

pytestmark = pytest.mark.usefixtures("with_secret")

SECRET = "the-secret-of-this-test-is-long-enough"
fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def with_secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CARILLON_JWT_SECRET", SECRET)
    _forget_settings()
    yield
    _forget_settings()


def refused(token: str) -> bool:
    try:
        subscriber_of(token)
    except Unauthenticated:
        return True
    return False


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    told = {"sub": "ada", "tenant": "uni", "roles": ["student"], "iat": now, "exp": now + 60, "iss": "carillon"}
    return {**told, "aud": "carillon", **changes}


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def signed(told: str) -> str:
    """Return a token rightly signed, whatever it says; PyJWT itself would not sign all of it."""
    signature = hmac.digest(SECRET.encode(), told.encode(), hashlib.sha256)
    return f"{told}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def same_bytes(one: str, other: str) -> bool:
    """Tell whether two tokens differ in bits alone that base64 ignores."""
    try:
        parts = [[base64.urlsafe_b64decode(part + "==") for part in token.split(".")] for token in (one, other)]
    except ValueError:
        return False
    return one.split(".")[:2] == other.split(".")[:2] and parts[0] == parts[1]


@fuzz
@given(st.integers(0, 400), st.text(max_size=3), st.integers(0, 3))
def test_a_changed_token_is_refused(place: int, noise: str, cut: int) -> None:
    token = make_token("uni", "ada")
    changed = token[:place] + noise + token[place + cut :]
    assert changed == token or refused(changed) or same_bytes(token, changed)


@fuzz
@given(
    st.sampled_from(["none", "None", "HS384", "HS512", "RS256", "ES256", "EdDSA", "", "hs256", "HS256 "]),
    st.sampled_from(["", SECRET, "another-secret-that-is-long-enough-too"]),
)
def test_the_algorithm_is_not_the_tokens_to_choose(algorithm: str, key: str) -> None:
    unsigned = f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(claims())}."
    assert refused(unsigned)
    assert refused(unsigned + encoded(key))
    assert refused(signed(unsigned.removesuffix(".")))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@fuzz
@given(st.dictionaries(st.sampled_from([*claims(), "nbf", "jti", "x"]), json_values, min_size=1, max_size=3))
def test_claims_of_any_form_rightly_signed_are_refused_or_mean_what_they_say(changes: dict[str, Any]) -> None:
    told = {**claims(), **changes}
    token = signed(f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded(told)}")
    try:
        who = subscriber_of(token)
    except Unauthenticated:
        return
    assert (who.recipient, who.tenant, list(who.roles)) == (told["sub"], told["tenant"], told.get("roles", []))
    assert 0 < len(who.recipient) <= MAX_NAME
    assert time.time() - 31 < who.expires_at <= who.issued_at + MAX_LIFE_S


@fuzz
@given(st.dictionaries(st.sampled_from(["typ", "alg", "kid", "crit", "jku", "jwk", "x5u", "b64", "zip"]), json_values))
def test_headers_of_any_form_are_refused_or_mean_nothing(header: dict[str, Any]) -> None:
    token = signed(f"{encoded({'alg': 'HS256', 'typ': 'JWT', **header})}.{encoded(claims())}")
    assert refused(token) or subscriber_of(token).recipient == "ada"


@fuzz
@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_no_token(text: str) -> None:
    assert refused(text)
