"""Webhooks: the signature is the credential, the delivery's id makes it an event once."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from standardwebhooks import Webhook

from shared import db, directory, metrics, settings, signing
from shared.cells import CELLS_HERE
from shared.directory import Recipient
from shared.signing import Purpose
from shared.statements import run
from tests.producers import TENANT, counted_statements, rows, stored

GITHUB = f"/api/webhooks/github?tenant={TENANT}"
STANDARD = f"/api/webhooks/standard?tenant={TENANT}"
JSON = "application/json"
REPOSITORY = {"full_name": "octo/hello"}
COMMENTED = {
    "action": "created",
    "repository": REPOSITORY,
    "sender": {"login": "bob"},
    "issue": {
        "number": 7, "title": "It breaks", "html_url": "https://github.com/octo/hello/issues/7",
        "user": {"login": "Ann"}, "assignees": [{"login": "stranger"}],
    },
    "comment": {
        "body": "Hello @CARL,\r\nlook\x00 here", "user": {"login": "bob"},
        "html_url": "https://github.com/octo/hello/issues/7#c1",
    },
}  # fmt: skip
AWARDED = {
    "type": "achievement.awarded",
    "timestamp": "2026-03-01T12:00:00Z",
    "data": {"student_id": "ann", "achievement_id": "a-1", "title": "First steps"},
}


def make_secret(purpose: Purpose, tenant: str = TENANT) -> tuple[str, str]:
    """Return a new secret's id and the secret."""
    with db.transaction("*") as connection:
        directory.ensure_tenant(connection, tenant)
        return signing.create_secret(connection, purpose, tenant)


@pytest.fixture
def github_secret(configured: dict[str, str]) -> str:
    """GitHub's secret; Ann, bob and carl are registered."""
    secret = make_secret("github")[1]
    with db.transaction("*") as connection:
        run(connection, directory.put_recipients([Recipient(TENANT, who) for who in ("Ann", "bob", "carl")]))
    return secret


@pytest.fixture
def standard_secret(configured: dict[str, str]) -> str:
    """A secret of Standard Webhooks."""
    return make_secret("standard")[1]


def _github(secret: str, body: bytes, name: str = "issue_comment", id: str = "d-1", kind: str = JSON) -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "content-type": kind, "x-github-event": name, "x-github-delivery": id,
        "x-hub-signature-256": f"sha256={signature}",
    }  # fmt: skip


async def _deliver(api: httpx.AsyncClient, secret: str, payload: Any, **told: str) -> httpx.Response:
    body = json.dumps(payload).encode()
    return await api.post(GITHUB, content=body, headers=_github(secret, body, **told))


def _fields(answer: httpx.Response) -> list[str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return [error["field"] for error in answer.json()["errors"]]


# --- GitHub ---


async def test_a_delivery_becomes_an_event_and_its_known_participants_join_the_thread(
    api: httpx.AsyncClient, github_secret: str, database_url: str
) -> None:
    answer = await _deliver(api, github_secret, COMMENTED)
    assert (answer.status_code, answer.json()) == (202, {"events": [{"id": "d-1", "status": "accepted"}]})
    ((source, id, type_, subject, registers, data),) = rows(
        database_url, "SELECT source, id, type, subject, registers, data FROM events"
    )
    assert (source, id, type_, subject, registers) == ("github", "d-1", "github.commented", "octo/hello#7", False)
    assert (data["actor_id"], data["mentioned_ids"], data["participant_ids"]) == ("bob", ["carl"], ["Ann", "stranger"])
    assert "\x00" not in data["excerpt"]
    assert rows(
        database_url,
        'SELECT m.topic, r.id FROM topic_members m JOIN recipients r USING (key) ORDER BY r.id COLLATE "C"',
    ) == [("github:octo/hello#7", "Ann"), ("github:octo/hello#7", "bob"), ("github:octo/hello#7", "carl")]
    assert rows(database_url, "SELECT count(*) FROM recipients") == [(3,)]


async def test_a_redelivery_is_a_duplicate_even_when_the_directory_has_changed(
    api: httpx.AsyncClient, github_secret: str, database_url: str
) -> None:
    await _deliver(api, github_secret, COMMENTED)
    with db.transaction("*") as connection:
        run(connection, directory.put_recipients([Recipient(TENANT, "STRANGER")]))
    again = await _deliver(api, github_secret, COMMENTED)
    other = await _deliver(api, github_secret, {**COMMENTED, "action": "edited"})
    assert again.json() == {"events": [{"id": "d-1", "status": "duplicate"}]}
    assert (other.status_code, stored(database_url)) == (409, 1)


def _counted(outcome: str) -> int:
    return CELLS_HERE.told().get((metrics.EVENTS.name, "", outcome), 0)


async def test_deliveries_are_counted_by_what_became_of_them(api: httpx.AsyncClient, github_secret: str) -> None:
    before = [_counted(outcome) for outcome in ("accepted", "duplicate")]
    for _ in range(3):
        assert (await _deliver(api, github_secret, COMMENTED)).status_code == 202
    assert (await _deliver(api, github_secret, {**COMMENTED, "action": "edited"})).status_code == 409
    after = [_counted(outcome) for outcome in ("accepted", "duplicate")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 2]


async def test_a_delivery_as_a_form_is_the_same(api: httpx.AsyncClient, github_secret: str, database_url: str) -> None:
    body = urlencode({"payload": json.dumps(COMMENTED)}).encode()
    kind = "application/x-www-form-urlencoded"
    answer = await api.post(GITHUB, content=body, headers=_github(github_secret, body, kind=kind))
    assert (answer.status_code, answer.json()["events"][0]["status"]) == (202, "accepted")
    again = await _deliver(api, github_secret, COMMENTED)
    assert (again.json()["events"][0]["status"], stored(database_url)) == ("duplicate", 1)


async def test_what_notifies_nobody_is_accepted_and_counted(
    api: httpx.AsyncClient, github_secret: str, database_url: str
) -> None:
    ping = await _deliver(api, github_secret, {"zen": "Keep it logically awesome."}, name="ping")
    assert (ping.status_code, ping.json()["events"][0]["status"]) == (202, "accepted")
    assert rows(database_url, "SELECT type, data FROM events") == [("github.delivery", {"event": "ping"})]


async def test_a_wrong_or_missing_github_signature_is_401_with_nothing_stored(
    api: httpx.AsyncClient, github_secret: str, database_url: str
) -> None:
    body = json.dumps(COMMENTED).encode()
    right = _github(github_secret, body)
    wrong = [
        _github("another secret", body),
        _github(github_secret, body + b" "),
        {**right, "x-hub-signature-256": ""},
        {**right, "x-hub-signature-256": right["x-hub-signature-256"].removeprefix("sha256=")},
        {**right, "x-hub-signature-256": "sha256=ünïcode"},
        {name: value for name, value in right.items() if name != "x-hub-signature-256"},
    ]
    encoded = [httpx.Headers({name.encode(): value.encode("latin-1") for name, value in one.items()}) for one in wrong]
    answers = [await api.post(GITHUB, content=body, headers=one) for one in encoded]
    elsewhere = await api.post("/api/webhooks/github?tenant=nowhere", content=body, headers=right)
    assert [answer.status_code for answer in (*answers, elsewhere)] == [401] * 7
    assert answers[0].json() == elsewhere.json()
    assert stored(database_url) == 0


async def test_a_secret_serves_its_own_purpose_and_tenant_alone(
    api: httpx.AsyncClient, github_secret: str, database_url: str
) -> None:
    body = json.dumps(COMMENTED).encode()
    others: list[tuple[Purpose, str]] = [("standard", TENANT), ("celery", TENANT), ("github", "other")]
    for purpose, tenant in others:
        _, secret = make_secret(purpose, tenant)
        assert (await api.post(GITHUB, content=body, headers=_github(secret, body))).status_code == 401
    assert stored(database_url) == 0


async def test_two_secrets_live_side_by_side_until_one_is_revoked(api: httpx.AsyncClient, github_secret: str) -> None:
    id, newer = make_secret("github")
    assert (await _deliver(api, newer, COMMENTED, id="d-1")).status_code == 202
    assert (await _deliver(api, github_secret, COMMENTED, id="d-2")).status_code == 202
    with db.transaction("*") as connection:
        assert [signing.revoke_secret(connection, id) for _ in range(2)] == [True, False]
    assert (await _deliver(api, newer, COMMENTED, id="d-3")).status_code == 401
    assert (await _deliver(api, github_secret, COMMENTED, id="d-3")).status_code == 202


async def test_a_github_body_that_is_wrong_is_refused_with_nothing_stored(
    api: httpx.AsyncClient, github_secret: str, database_url: str
) -> None:
    form = "application/x-www-form-urlencoded"
    cases: list[tuple[bytes, str, int]] = [
        (b"{", JSON, 400),
        (b"[]", JSON, 400),
        (b"payload=%7B", form, 400),
        (b"payload={}&payload={}", form, 400),
        (b"other={}", form, 400),
        (b"\xff", form, 400),
        (b"{}", "text/plain", 415),
    ]
    for body, kind, status in cases:
        answer = await api.post(GITHUB, content=body, headers=_github(github_secret, body, kind=kind))
        assert (body, answer.status_code) == (body, status)
    anonymous = {**_github(github_secret, b"{}"), "x-github-delivery": "", "x-github-event": "x" * 201}
    answer = await api.post(GITHUB, content=b"{}", headers=anonymous)
    assert (answer.status_code, _fields(answer)) == (422, ["X-GitHub-Delivery", "X-GitHub-Event"])
    told = [error["message"] for error in answer.json()["errors"]]
    assert told == ["is required", "must be a text of 1 to 200 printable characters"]
    nul = await api.post("/api/webhooks/github?tenant=%00", content=b"{}", headers=_github(github_secret, b"{}"))
    assert (nul.status_code, _fields(nul)) == (422, ["tenant"])
    assert stored(database_url) == 0


async def test_a_delivery_costs_a_bounded_number_of_statements(api: httpx.AsyncClient, github_secret: str) -> None:
    with counted_statements() as seen:
        await _deliver(api, github_secret, COMMENTED)
    assert len(seen) == 5  # the secrets, the logins, the event, the participants, their membership


async def test_a_webhook_over_the_bound_is_413(
    settings_env: dict[str, str], api: httpx.AsyncClient, github_secret: str, database_url: str
) -> None:
    body = b" " * (settings.settings().webhook_max_bytes + 1)
    answer = await api.post(GITHUB, content=body, headers=_github(github_secret, b""))
    assert (answer.status_code, stored(database_url)) == (413, 0)


# --- Standard Webhooks ---


def _signed(secret: str, body: bytes, id: str = "msg_1", at: datetime | None = None) -> dict[str, str]:
    moment = at or datetime.now(UTC)
    return {
        "content-type": JSON, "webhook-id": id, "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(id, moment, body.decode()),
    }  # fmt: skip


async def test_a_standard_webhook_becomes_an_event_once(
    api: httpx.AsyncClient, standard_secret: str, database_url: str
) -> None:
    body = json.dumps(AWARDED).encode()
    answers = [await api.post(STANDARD, content=body, headers=_signed(standard_secret, body)) for _ in range(2)]
    assert [(answer.status_code, answer.json()["events"]) for answer in answers] == [
        (202, [{"id": "msg_1", "status": "accepted"}]), (202, [{"id": "msg_1", "status": "duplicate"}]),
    ]  # fmt: skip
    assert rows(database_url, "SELECT source, id, type, time, registers, data FROM events") == [
        ("standard", "msg_1", AWARDED["type"], AWARDED["timestamp"], False, AWARDED["data"])
    ]


async def test_one_of_several_signatures_is_enough(api: httpx.AsyncClient, standard_secret: str) -> None:
    body = json.dumps(AWARDED).encode()
    headers = _signed(standard_secret, body)
    headers["webhook-signature"] = f"v1a,zzz v1,AAAA nonsense {headers['webhook-signature']}"
    assert (await api.post(STANDARD, content=body, headers=headers)).status_code == 202


async def test_a_wrong_or_old_standard_signature_is_401_with_nothing_stored(
    api: httpx.AsyncClient, standard_secret: str, database_url: str
) -> None:
    body = json.dumps(AWARDED).encode()
    now, right = datetime.now(UTC), _signed(standard_secret, body)
    wrong = [
        _signed(standard_secret, body + b" "),
        _signed(make_secret("standard", "other")[1], body),
        _signed(standard_secret, body, at=now - timedelta(minutes=6)),
        _signed(standard_secret, body, at=now + timedelta(minutes=6)),
        {**right, "webhook-id": "msg_2"},
        {**right, "webhook-timestamp": "soon"},
        {**right, "webhook-signature": "v1"},
        {name: value for name, value in right.items() if name != "webhook-signature"},
        {name: value for name, value in right.items() if name != "webhook-id"},
    ]
    answers = [await api.post(STANDARD, content=body, headers=headers) for headers in wrong]
    assert [answer.status_code for answer in answers] == [401] * len(wrong)
    assert stored(database_url) == 0


async def test_each_wrong_field_of_a_standard_webhook_is_named_as_it_was_sent(
    api: httpx.AsyncClient, standard_secret: str, database_url: str
) -> None:
    cases: list[tuple[Any, int, list[str] | None]] = [
        ({**AWARDED, "timestamp": "now"}, 422, ["timestamp"]),
        ({**AWARDED, "timestamp": None}, 422, ["timestamp"]),
        ({**AWARDED, "type": "no.such"}, 422, ["type"]),
        ({**AWARDED, "data": {**AWARDED["data"], "title": 7}}, 422, ["data.title"]),  # type: ignore[dict-item]
        ({**AWARDED, "id": "x"}, 422, ["id"]),
        ({"type": AWARDED["type"]}, 422, ["timestamp", "data"]),
        ([], 400, None),
    ]
    for number, (sent, status, named) in enumerate(cases):
        body = json.dumps(sent).encode()
        answer = await api.post(STANDARD, content=body, headers=_signed(standard_secret, body, f"m{number}"))
        assert (sent, answer.status_code) == (sent, status)
        assert named is None or _fields(answer) == named
    body = json.dumps(AWARDED).encode()
    long_id = await api.post(STANDARD, content=body, headers=_signed(standard_secret, body, "m" * 201))
    assert (long_id.status_code, _fields(long_id)) == (422, ["webhook-id"])
    typeless = await api.post(STANDARD, content=body, headers={**_signed(standard_secret, body), "content-type": "a/b"})
    large = await api.post(STANDARD, content=b" " * 65_537, headers=_signed(standard_secret, b""))
    assert (typeless.status_code, large.status_code, stored(database_url)) == (415, 413, 0)


# --- secrets at rest ---


def test_a_secret_is_stored_encrypted_for_its_own_row(configured: dict[str, str], database_url: str) -> None:
    id, secret = make_secret("standard")
    other_id, _ = make_secret("github")
    ((ciphertext,),) = rows(database_url, "SELECT ciphertext FROM signing_secrets WHERE id = %s", id)
    row = {"id": id, "purpose": "standard", "tenant": TENANT, "ciphertext": ciphertext}
    assert secret.encode() not in bytes(ciphertext)
    assert signing.decrypt(row) == secret
    assert signing.decrypt({**row, "id": other_id}) is None
    assert signing.decrypt({**row, "tenant": "other"}) is None
    with db.transaction("*") as connection:
        assert run(connection, signing.secrets_of(TENANT, "standard")) == [secret]
