"""Tokens and producer keys that are forged, stretched, swapped or damaged."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from tests.attacks.harness import COUNT, PAGE, STREAM, Case, Target, ask
from tests.writer import TENANT

NO = (401, "unauthenticated")
CHALLENGE: dict[str, str | None] = {"www-authenticate": "Bearer", "cache-control": "no-store"}
OTHER_SECRET = "another-key-that-is-long-enough-for-hmac-and-unknown"


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(target: Target) -> str:
    return f"Bearer {part({'alg': 'none', 'typ': 'JWT'})}.{target.token().split('.')[1]}."


def with_header(**header: Any) -> Any:
    """Return a header with the victim's token whose JOSE header was changed after it was signed."""
    return lambda target: f"Bearer {part(header)}.{'.'.join(target.token().split('.')[1:])}"


def tampered(target: Target) -> str:
    head, claims, mac = target.token(sub="mallory").split(".")
    told = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return f"Bearer {head}.{part({**told, 'sub': target.victim})}.{mac}"


def bearer(**changes: Any) -> Any:
    return lambda target: target.bearer(**changes)


def now() -> int:
    return int(time.time())


def token_case(name: str, authorization: Any) -> Case:
    return Case(name, ask("GET", PAGE, authorization=authorization), *NO, has=CHALLENGE)


TOKENS = [
    Case("no credentials", ask("GET", PAGE), *NO, has=CHALLENGE),
    Case("no credentials on the stream", ask("GET", STREAM), *NO, has=CHALLENGE),
    token_case("an empty header", ""),
    token_case("another scheme", "Basic YWRhOmFkYQ=="),
    token_case("a token that is none", "Bearer nonsense"),
    token_case("a token of dots", "Bearer ..."),
    token_case("a token without a signature", unsigned),
    token_case("a header that names no algorithm", with_header(typ="JWT")),
    token_case("a header that is a list", with_header()),
    token_case("another algorithm in the header than it was signed with", with_header(alg="HS512", typ="JWT")),
    token_case("an asymmetric algorithm in the header", with_header(alg="RS256", typ="JWT")),
    token_case("claims that were changed after signing", tampered),
    token_case("a token of another key", bearer(key=OTHER_SECRET)),
    token_case("another HMAC of the right key", bearer(algorithm="HS384")),
    token_case("a key in the token's own header", bearer(key=OTHER_SECRET, header={"jwk": {"kty": "oct", "k": "eA"}})),
    token_case("a key set of the attacker's", bearer(key=OTHER_SECRET, header={"jku": "https://evil.example/keys"})),
    token_case("a kid that is a path", bearer(key=OTHER_SECRET, header={"kid": "../../../../dev/null"})),
    token_case("a kid that is SQL", bearer(key=OTHER_SECRET, header={"kid": "x' UNION SELECT 'secret'--"})),
    token_case("an extension that must be understood", bearer(header={"crit": ["exp"]})),
    token_case("a token for something else", bearer(header={"typ": "dpop+jwt"})),
    token_case("an expired token", lambda t: t.bearer(exp=now() - 60, iat=now() - 120)),
    token_case("a token that is not valid yet", lambda t: t.bearer(nbf=now() + 3600)),
    token_case("a token from the future", lambda t: t.bearer(iat=now() + 3600, exp=now() + 7200)),
    token_case("a token that lives for a week", lambda t: t.bearer(exp=now() + 7 * 24 * 3600)),
    token_case("a token that never ends", bearer(exp=...)),
    token_case("a token that ends at infinity", bearer(exp=float("inf"))),
    token_case("an end that is a text", lambda t: t.bearer(exp=str(now() + 600))),
    token_case("a token that nobody issued", bearer(iss=...)),
    token_case("a token of another issuer", bearer(iss="evil")),
    token_case("a token for another service", bearer(aud="somebody-else")),
    token_case("a token of nobody", bearer(sub="")),
    token_case("a token of a number", bearer(tenant=7)),
    token_case("a token of no tenant", bearer(tenant=...)),
    token_case("a recipient with a line feed", bearer(sub="ada\r\nx: y")),
    token_case("a recipient with a NUL", bearer(sub="ada\x00")),
    token_case("a recipient of 201 characters", bearer(sub="x" * 201)),
    token_case("roles that are no list", bearer(roles="super_admin")),
    token_case("a token of 9 KiB", bearer(padding="x" * 9 * 1024)),
    token_case("a producer key where a token belongs", lambda t: f"Bearer {t.key('ops:read')}"),
    Case("a token in the address, which is not switched on", ask("GET", lambda t: f"{STREAM}?token={t.token()}"), *NO),
    Case("a token in the address of a page", ask("GET", lambda t: f"{PAGE}?token={t.token()}"), *NO),
    Case("a token of the same person in another tenant reads nothing of this one",
         ask("GET", COUNT, authorization=bearer(tenant="south")), 200),
]  # fmt: skip


def key_case(name: str, authorization: Any, status: int = 401, problem: str = "unauthenticated") -> Case:
    body = json.dumps(
        {"specversion": "1.0", "id": "attack", "source": "/attack", "type": "achievement.awarded", "tenant": TENANT,
         "data": {"student_id": "ann", "achievement_id": "a", "title": "t"}}
    ).encode()  # fmt: skip
    kind = "application/cloudevents+json"
    return Case(name, ask("POST", "/api/events", body, content_type=kind, authorization=authorization), status, problem)


def damaged(target: Target) -> str:
    key = target.key("events:write")
    return f"Bearer {key[:-1]}{'A' if key[-1] != 'A' else 'B'}"


def swapped(target: Target) -> str:
    """Return the prefix of one key with the secret of another."""
    one, other = target.key("events:write").split("_", 2), target.key("ops:read").split("_", 2)
    return f"Bearer {'_'.join([*one[:2], other[2]])}"


KEYS = [
    key_case("an event without a key", ""),
    key_case("a recipient's token where a key belongs", bearer()),
    key_case("a key that nobody made", f"Bearer ck_{'0' * 16}_{'A' * 43}"),
    key_case("a key without its secret", lambda t: f"Bearer {'_'.join(t.key('events:write').split('_')[:2])}"),
    key_case("a key with one letter changed", damaged),
    key_case("a key with another key's secret", swapped),
    key_case("a key that is SQL", "Bearer ck_'; DROP TABLE producer_keys;--"),
    key_case("a key with the wrong scope", lambda t: f"Bearer {t.key('ops:read')}", 403, "forbidden"),
]


@pytest.mark.parametrize("case", TOKENS, ids=str)
def test_tokens(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize("case", KEYS, ids=str)
def test_producer_keys(target: Target, case: Case) -> None:
    target.judge(case)
