"""Producer keys, recent answers, and signatures: what needs no database."""

from __future__ import annotations

import base64
import time

import pytest
from standardwebhooks import Webhook

from shared import keys, signing
from shared.errors import InvalidInput, SettingsError, Unauthenticated
from shared.keys import ProducerKey, make_key, prefix_of
from shared.recent import Recent
from shared.settings import settings
from shared.signing import Signed

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def test_a_key_is_printed_once_and_stored_as_a_hash() -> None:
    printed, row = make_key(["b", "a", "a"], ["ops:read", "events:write"])
    kind, prefix, secret = printed.split("_", 2)
    assert (kind, prefix, len(secret)) == ("ck", row["prefix"], 43)
    assert (row["tenants"], row["scopes"]) == (["a", "b"], ["events:write", "ops:read"])
    assert (row["secret_hash"], secret in repr(row)) == (keys.digest(secret), False)
    assert prefix_of(printed) == prefix
    assert make_key(None, ["events:write"])[1]["tenants"] is None


@pytest.mark.parametrize("scopes", [[], ["events:read"], ["events:write", ""]])
def test_a_key_needs_known_scopes(scopes: list[str]) -> None:
    with pytest.raises(InvalidInput):
        make_key(None, scopes)


@pytest.mark.parametrize("printed", ["", "ck_", "ck_0_x", f"ck_{'0' * 16}_{'A' * 42}", f"ck_{'G' * 16}_{'A' * 43}"])
def test_what_is_no_key_is_refused_without_asking_the_database(printed: str) -> None:
    with pytest.raises(Unauthenticated):
        next(keys.verify(printed))


def test_a_key_may_use_its_tenants_and_scopes_alone() -> None:
    some = ProducerKey("p", frozenset({"a"}), frozenset({"events:write"}))
    every = ProducerKey("p", None, frozenset())
    assert (some.may_use("a"), some.may_use("b"), every.may_use("b")) == (True, False, True)
    assert (some.may("events:write"), some.may("ops:read"), every.may("events:write")) == (True, False, False)


def test_recent_answers_are_forgotten_by_age_and_by_number() -> None:
    now = 0.0
    recent: Recent[str, int] = Recent(10.0, 2, clock=lambda: now)
    recent.set("a", 1)
    now = 9.9
    assert recent.get("a") == 1
    recent.set("b", 2)
    now = 10.0
    assert (recent.get("a"), recent.get("b")) == (None, 2)
    recent.set("c", 3)
    recent.set("b", 4)
    recent.set("d", 5)
    assert [recent.get(name) for name in "abcd"] == [None, 4, None, 5]
    recent.clear()
    assert recent.get("d") is None


def test_a_standard_signature_is_the_one_of_the_reference_library() -> None:
    now = int(time.time())
    body = '{"type": "ünï"}'
    ours = signing.standard_signature(SECRET, "msg_1", now, body.encode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": ours}
    assert Webhook(SECRET).verify(body, headers) == {"type": "ünï"}
    signing.verify_standard(["whsec_AAAA", SECRET], Signed("msg_1", str(now), f"v1,AAAA {ours}"), body.encode())


@pytest.mark.parametrize("age", [301, -301, 10**10])
def test_a_signature_too_far_from_now_is_refused(age: int) -> None:
    moment = int(time.time()) - age
    signature = signing.standard_signature(SECRET, "m", moment, b"")
    with pytest.raises(Unauthenticated):
        signing.verify_standard([SECRET], Signed("m", str(moment), signature), b"")


@pytest.mark.parametrize("found", [[], ["whsec_AAAA"]])
def test_without_the_right_secret_nothing_is_verified(found: list[str]) -> None:
    now = str(int(time.time()))
    with pytest.raises(Unauthenticated):
        signing.verify_standard(found, Signed("m", now, "v1,"), b"")
    with pytest.raises(Unauthenticated):
        signing.verify_github(found, "sha256=", b"")


@pytest.mark.parametrize("key", [None, "short", base64.urlsafe_b64encode(bytes(16)).decode(), "%%%"])
def test_without_a_usable_secret_key_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    if key is None:
        monkeypatch.delenv("CARILLON_SECRET_KEY", raising=False)
        monkeypatch.setenv("CARILLON_DATA_DIR", "/nonexistent")
    else:
        monkeypatch.setenv("CARILLON_SECRET_KEY", key)
    settings.cache_clear()
    try:
        with pytest.raises(SettingsError, match="CARILLON_SECRET_KEY"):
            signing.encrypt("x", "sec_1", "github", "acme")
    finally:
        settings.cache_clear()
