"""Events, webhooks and messages over Celery that are malformed, oversized, forged, replayed, or somebody else's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu.serialization import registry
from redis import Redis
from sqlalchemy import create_engine

from shared.db import sqlalchemy_url
from shared.signing import create_secret
from shared.wake import ACCEPT_QUEUE, ACCEPT_TASK
from tests.attacks.harness import JSON, Case, Target, ask
from tests.attacks.test_authorisation import EVENTS, EVENTS_KEY, STRUCTURED
from tests.conftest import _forget_settings
from tests.eventually import eventually
from tests.servers import Worker
from tests.writer import TENANT

BATCHED = "application/cloudevents-batch+json"
INVALID = (422, "invalid-input")
MALFORMED = (400, "malformed-body")
TOO_LARGE = (413, "body-too-large")
WRONG_KIND = (415, "unsupported-content-type")
NO = (401, "unauthenticated")
DATA = {"student_id": "ann", "achievement_id": "a", "title": "t"}


def event(**changes: Any) -> dict[str, Any]:
    whole = {"specversion": "1.0", "id": "attack", "source": "/attacks", "type": "achievement.awarded",
             "tenant": TENANT, "data": DATA}  # fmt: skip
    return {name: value for name, value in {**whole, **changes}.items() if value is not ...}


def announced(**changes: Any) -> dict[str, Any]:
    data = {"title": "t", "message": "m", "audience": {"everyone": True}, **changes}
    return event(type="system.announcement", data=data)


def sent(body: Any, kind: str = STRUCTURED, **headers: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask("POST", EVENTS, content, authorization=EVENTS_KEY, content_type=kind, **headers)


def wrong(name: str, **changes: Any) -> Case:
    return Case(name, sent(event(**changes)), *INVALID)


def linked(url: str) -> Case:
    return Case(f"an announcement that leads to {url!r}", sent(announced(action_url=url)), *INVALID)


BINARY = {"ce_specversion": "1.0", "ce_id": "attack", "ce_source": "/a", "ce_type": "achievement.awarded",
          "ce_tenant": TENANT}  # fmt: skip

EVENT_CASES = [
    wrong("another version", specversion="0.3"),
    wrong("no id", id=...),
    wrong("an id of a line's end", id="a\r\nset-cookie: x=y"),
    wrong("an id of 201 characters", id="x" * 201),
    wrong("an id that is a dot segment", id=".."),
    wrong("an id that is a number", id=7),
    wrong("a source that is no reference", source="http://[::1"),
    wrong("a type of nobody's", type="admin.granted"),
    wrong("a type that is a list", type=["achievement.awarded"]),
    wrong("a time that is a word", time="now"),
    wrong("a time without a zone", time="2026-03-01T12:00:00"),
    wrong("a schema that is a script", dataschema="javascript alert(1)"),
    wrong("a trace of another form", traceparent="00-x"),
    wrong("data as a file", data_base64="AAAA"),
    wrong("an attribute in capitals", Admin="1"),
    wrong("an attribute that is an object", x={"a": 1}),
    wrong("data that is a list", data=[DATA]),
    wrong("data of a field more", data={**DATA, "admin": True}),
    wrong("data of a prototype", data={**DATA, "__proto__": {}}),
    wrong("data with NUL", data={**DATA, "title": "a\0b"}),
    wrong("data with half a surrogate pair", data={**DATA, "title": "\ud800"}),
    wrong("data with an escape sequence", data={**DATA, "title": "\x1b]0;owned\x07"}),
    wrong("a recipient that is a list", data={**DATA, "student_id": ["ann", "ben"]}),
    wrong("a recipient of 201 characters", data={**DATA, "student_id": "x" * 201}),
    wrong("a recipient that turns the writing round", data={**DATA, "student_id": "\u202eann"}),
    wrong("a tenant that is an object", tenant={"$ne": ""}),
    Case("an integer beyond 64 bits", sent(json.dumps(event()).replace('"t"', "9" * 30).encode()), *INVALID),
    Case("NaN", sent(json.dumps(event()).replace('"t"', "NaN").encode()), *MALFORMED),
    Case("the same name twice", sent(json.dumps(event())[:-1].encode() + b',"id":"other"}'), *INVALID),
    Case("an audience of another tenant", sent(announced(audience={"tenant": "south"})), *INVALID),
    Case("two audiences at once", sent(announced(audience={"everyone": True, "role": "x"})), *INVALID),
    *map(linked, ("javascript:alert(1)", "//evil.example", "/\\evil.example", "https://a@evil.example", "data:,x",
                  "http://evil.example/", "https:/evil.example", " /x", "/" + "a" * 2_048)),
    Case("an event of 65 KiB", sent(event(data={**DATA, "title": "x" * 66_000})), *TOO_LARGE),
    Case("a batch with one that is wrong", sent([event(id="b1"), event(id="b2", type="x.y")], BATCHED), *INVALID),
    Case("a batch of nothing", sent([], BATCHED), *INVALID),
    Case("a batch of 1,001", sent([event(id=str(n)) for n in range(1_001)], BATCHED), *INVALID),
    Case("a batch that is an object", sent(event(), BATCHED), *INVALID),
    Case("a batch of two tenants", sent([event(id="b1"), event(id="b2", tenant="south")], BATCHED), 403, "forbidden"),
    Case("a list as one event", sent([event()]), *INVALID),
    Case("XML", sent(b"<event/>", "application/cloudevents+xml"), *WRONG_KIND),
    Case("JSON without its attributes", sent(DATA, JSON), *WRONG_KIND),
    Case("binary mode with an attribute twice", sent(DATA, JSON, **BINARY, **{"Ce_id": "other"}), *INVALID),
    Case("binary mode with bytes that are no text", sent(DATA, JSON, **{**BINARY, "ce_id": "%ff"}), *INVALID),
    Case("binary mode with a line's end", sent(DATA, JSON, **{**BINARY, "ce_id": "a%0d%0ab"}), *INVALID),
    Case("a compressed event", sent(event(), content_encoding="gzip"), *WRONG_KIND),
    Case("an event nobody posted", ask("GET", f"{EVENTS}/none?source=/s&tenant={TENANT}", authorization=EVENTS_KEY),
         404, "not-found"),
    Case("a cancel of an event nobody posted",
         ask("DELETE", f"{EVENTS}/none?source=/s&tenant={TENANT}", authorization=EVENTS_KEY), 404, "not-found"),
]  # fmt: skip

# --- webhooks ---


class Signer:
    """The secrets of a tenant's webhooks and Celery producers, and what was signed with them."""

    def __init__(self, target: Target) -> None:
        self._made: dict[tuple[str, str], tuple[str, str]] = {}
        self._environment = target.edge.environment

    def secret(self, purpose: Any, tenant: str = TENANT) -> tuple[str, str]:
        """Return the id and the secret, made once."""
        if (purpose, tenant) not in self._made:
            engine = create_engine(sqlalchemy_url(self._environment["CARILLON_DATABASE_URL"]))
            with engine.begin() as connection:
                self._made[purpose, tenant] = create_secret(connection, purpose, tenant)
            engine.dispose()
        return self._made[purpose, tenant]

    def standard(self, body: bytes, id: str = "w1", age_s: int = 0, purpose: str = "standard") -> dict[str, str]:
        """Return the headers of a Standard Webhook."""
        moment = int(time.time()) - age_s
        key = base64.b64decode(self.secret(purpose)[1].removeprefix("whsec_"))
        digest = hmac.digest(key, f"{id}.{moment}.".encode() + body, hashlib.sha256)
        signature = f"v1,{base64.b64encode(digest).decode()}"
        return {"webhook-id": id, "webhook-timestamp": str(moment), "webhook-signature": signature}

    def github(self, body: bytes) -> dict[str, str]:
        """Return the headers of a delivery of GitHub's."""
        digest = hmac.digest(self.secret("github")[1].encode(), body, hashlib.sha256).hex()
        return {"x-hub-signature-256": f"sha256={digest}", "x-github-delivery": "d1", "x-github-event": "issues"}


@pytest.fixture(scope="module")
def signer(target: Target) -> Iterator[Signer]:
    """Secrets of the tests' tenant. They are stored encrypted, with the key that the server has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARILLON_SECRET_KEY", target.edge.environment["CARILLON_SECRET_KEY"])
        _forget_settings()
        made = Signer(target)
        for purpose in ("standard", "github", "celery"):
            made.secret(purpose)
        yield made
    _forget_settings()


HOOK = json.dumps({"type": "achievement.awarded", "timestamp": "2026-03-01T12:00:00Z", "data": DATA}).encode()
DELIVERY = b'{"action":"opened"}'
Headers = Callable[[Signer], dict[str, str]]


def changed(**changes: str) -> Headers:
    told = {name.replace("_", "-"): value for name, value in changes.items()}
    return lambda signer: {**signer.standard(HOOK), **told}


STANDARD: list[tuple[str, Headers, bytes, tuple[int, str]]] = [
    ("no signature", lambda _: {}, HOOK, NO),
    ("a signature of another body", lambda signer: signer.standard(b"{}"), HOOK, NO),
    ("a signature of another id", changed(webhook_id="w2"), HOOK, NO),
    ("a signature of another time", changed(webhook_timestamp=str(int(time.time()) - 5)), HOOK, NO),
    ("a signature that is empty", changed(webhook_signature="v1,"), HOOK, NO),
    ("a signature of another scheme", changed(webhook_signature="v1a,AAAA"), HOOK, NO),
    ("a hundred signatures", changed(webhook_signature=" ".join(["v1,AAAA"] * 100)), HOOK, NO),
    ("a time that is a word", changed(webhook_timestamp="now"), HOOK, NO),
    ("a delivery of ten minutes ago", lambda signer: signer.standard(HOOK, age_s=600), HOOK, NO),
    ("a delivery of the future", lambda signer: signer.standard(HOOK, age_s=-600), HOOK, NO),
    ("a secret for another purpose", lambda signer: signer.standard(HOOK, purpose="celery"), HOOK, NO),
    ("rightly signed, no JSON", lambda signer: signer.standard(b"{"), b"{", MALFORMED),
    ("rightly signed, a field more", lambda signer: signer.standard(HOOK[:-1] + b',"tenant":"south"}'),
     HOOK[:-1] + b',"tenant":"south"}', INVALID),
    ("rightly signed, a type of nobody's", lambda signer: signer.standard(HOOK.replace(b"awarded", b"granted")),
     HOOK.replace(b"awarded", b"granted"), INVALID),
]  # fmt: skip


def hook(path: str, headers: Headers, body: bytes, signer: Signer, kind: str = JSON) -> Any:
    return ask("POST", path, body, content_type=kind, **headers(signer))


@pytest.mark.parametrize("case", EVENT_CASES, ids=str)
def test_events(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize(("name", "headers", "body", "answer"), STANDARD, ids=[case[0] for case in STANDARD])
def test_standard_webhooks(
    target: Target, signer: Signer, *, name: str, headers: Headers, body: bytes, answer: tuple[int, str]
) -> None:
    path = f"/api/webhooks/standard?tenant={TENANT}"
    target.judge(Case(name, hook(path, headers, body, signer), *answer))


GITHUB: list[tuple[str, Headers, bytes, str, str, tuple[int, str]]] = [
    ("no signature", lambda _: {}, DELIVERY, TENANT, JSON, NO),
    ("a signature of another body", lambda signer: signer.github(b"{}"), DELIVERY, TENANT, JSON, NO),
    ("SHA-1", lambda signer: {**signer.github(DELIVERY), "x-hub-signature-256": "sha1=00"}, DELIVERY, TENANT, JSON, NO),
    ("another tenant's address", lambda signer: signer.github(DELIVERY), DELIVERY, "south", JSON, NO),
    ("the platform's address", lambda signer: signer.github(DELIVERY), DELIVERY, "platform", JSON, NO),
    ("a plain text", lambda signer: signer.github(DELIVERY), DELIVERY, TENANT, "text/plain", WRONG_KIND),
    ("no JSON", lambda signer: signer.github(b"{"), b"{", TENANT, JSON, MALFORMED),
    ("a form of two fields", lambda signer: signer.github(b"payload={}&x=1"), b"payload={}&x=1", TENANT,
     "application/x-www-form-urlencoded", MALFORMED),
    ("no delivery id", lambda signer: {**signer.github(DELIVERY), "x-github-delivery": ""}, DELIVERY, TENANT, JSON,
     INVALID),
    ("a delivery id of 201 characters", lambda signer: {**signer.github(DELIVERY), "x-github-delivery": "x" * 201},
     DELIVERY, TENANT, JSON, INVALID),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "headers", "body", "tenant", "kind", "answer"), GITHUB, ids=[case[0] for case in GITHUB]
)
def test_github_webhooks(
    target: Target, signer: Signer, *, name: str, headers: Headers, body: bytes, tenant: str, kind: str,
    answer: tuple[int, str],
) -> None:  # fmt: skip
    path = f"/api/webhooks/github?tenant={tenant}"
    target.judge(Case(name, hook(path, headers, body, signer, kind), *answer))


# --- messages over Celery ---


@pytest.fixture(scope="module")
def broker(target: Target, signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Celery]:
    """An application of somebody who reaches the broker, and a worker behind it."""
    log: Path = tmp_path_factory.mktemp("celery") / "worker.log"
    worker = Worker(target.edge.environment, log, "carillon.accept", concurrency=1)
    app = Celery("attacker", broker=target.edge.environment["CARILLON_BROKER_URL"], set_as_current=False)
    try:
        worker.start()
        yield app
    finally:
        app.close()
        worker.kill()


EVENT = json.dumps(event())
Message = Callable[[Signer], tuple[list[Any], dict[str, Any]]]


def message(body: str = EVENT, signed: str | None = None, **changes: Any) -> Message:
    """Return a message whose signature is of `signed` (the body itself unless told), with headers changed."""

    def made(signer: Signer) -> tuple[list[Any], dict[str, Any]]:
        id, _ = signer.secret("celery")
        headers = signer.standard((signed or body).encode(), purpose="celery")
        told = {
            **headers,
            "carillon-secret-id": id,
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        return [body], {name: value for name, value in told.items() if value is not ...}

    return made


def old(signer: Signer) -> tuple[list[Any], dict[str, Any]]:
    headers = signer.standard(EVENT.encode(), age_s=40 * 24 * 3600, purpose="celery")
    return [EVENT], {**headers, "carillon-secret-id": signer.secret("celery")[0]}


def of_github(signer: Signer) -> tuple[list[Any], dict[str, Any]]:
    return message(carillon_secret_id=signer.secret("github")[0])(signer)


SOUTHERN = json.dumps(event(tenant="south"))
MESSAGES: list[tuple[str, Message, tuple[int, str]]] = [
    ("no signature", message(webhook_signature=...), NO),
    ("no secret's id", message(carillon_secret_id=...), NO),
    ("a secret of nobody's", message(carillon_secret_id="sec_0"), NO),
    ("a secret that is SQL", message(carillon_secret_id="' OR '1'='1"), NO),
    ("a secret of GitHub's", of_github, NO),
    ("a body that was changed", message(EVENT.replace("ann", "eve"), EVENT), NO),
    ("an id that was changed", message(webhook_id="other"), NO),
    ("a message of 40 days ago", old, NO),
    ("an event for another tenant", message(SOUTHERN), (403, "forbidden")),
    ("no JSON", message("{"), MALFORMED),
    ("an event of nobody's type", message(EVENT.replace("achievement.awarded", "x.y")), INVALID),
    ("a batch", message(f"[{EVENT}]"), INVALID),
    ("an event of 65 KiB", message(json.dumps(event(data={**DATA, "title": "x" * 66_000}))), TOO_LARGE),
    ("an object for a text", lambda signer: ([event()], message()(signer)[1]), MALFORMED),
    ("no argument", lambda signer: ([], message()(signer)[1]), MALFORMED),
]  # fmt: skip


@pytest.mark.parametrize(("name", "made", "answer"), MESSAGES, ids=[case[0] for case in MESSAGES])
def test_celery_messages(
    target: Target, signer: Signer, broker: Celery, *, name: str, made: Message, answer: tuple[int, str]
) -> None:
    arguments, headers = made(signer)
    with target.unharmed():
        sent = broker.send_task(ACCEPT_TASK, args=arguments, queue=ACCEPT_QUEUE, headers=headers)
        problem = result_of(target, sent.id)
    assert (problem["status"], problem["type"].rpartition(":")[2]) == answer, problem


def result_of(target: Target, id: str) -> dict[str, Any]:
    with Redis.from_url(target.edge.environment["CARILLON_REDIS_URL"]) as results:
        found = json.loads(eventually(lambda: results.get(f"celery-task-meta-{id}"), within=30.0) or "")
    told: dict[str, Any] = found["result"]
    return told


def test_a_pickle_is_not_opened_and_the_worker_goes_on(target: Target, signer: Signer, broker: Celery) -> None:
    opened = Path(target.edge.environment["CARILLON_DATA_DIR"]).with_name("opened")
    serializers: Any = registry
    with target.unharmed():
        serializers.enable("pickle")
        try:
            broker.send_task(ACCEPT_TASK, args=[Trap(str(opened))], queue=ACCEPT_QUEUE, serializer="pickle")
        finally:
            serializers.disable("pickle")
        arguments, headers = message(webhook_signature=...)(signer)
        after = broker.send_task(ACCEPT_TASK, args=arguments, queue=ACCEPT_QUEUE, headers=headers)
        assert result_of(target, after.id)["status"] == 401
    assert not opened.exists()


class Trap:
    """Makes a file of whoever opens it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self._path, "w")
