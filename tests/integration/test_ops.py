"""The operators' page: who may see what, what it tells, the retry of a failed event, and its stream's end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest

from api.pages import POLICY
from shared.keys import prefix_of
from tests.directory import Row
from tests.eventually import eventually
from tests.producers import STRUCTURED, bearer, envelope, make_key
from tests.servers import ApiServer

PATIENCE_S = 30.0
NewServer = Callable[..., ApiServer]


@pytest.fixture
def server(production: dict[str, str], configured: dict[str, str], new_api_server: NewServer) -> ApiServer:
    """An API process in production."""
    return new_api_server(**production)


def _overview(server: ApiServer, key: str) -> Any:
    answer = httpx.get(f"{server.url}/api/ops/overview", headers=bearer(key), timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _post(server: ApiServer, key: str, **changes: Any) -> None:
    headers = {**bearer(key), "content-type": STRUCTURED}
    answer = httpx.post(f"{server.url}/api/events", json=envelope(**changes), headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == 202, answer.text


def _retry(server: ApiServer, key: str | None, **changes: Any) -> httpx.Response:
    body = {"tenant": "acme", "source": "/tests", "id": "e1", **changes}
    headers = {} if key is None else bearer(key)
    return httpx.post(f"{server.url}/api/ops/events/retry", json=body, headers=headers, timeout=PATIENCE_S)


def _fail(db: psycopg.Connection[Row], **where: str) -> None:
    db.execute(
        "UPDATE events SET state = 'failed', error = 'It could not be told.', attempts = 5, finished_at = now()"
        " WHERE id = %(id)s", where,
    )  # fmt: skip


def test_without_the_scope_there_is_nothing_to_see(server: ApiServer) -> None:
    keys: dict[int, list[dict[str, str]]] = {
        401: [{}, bearer("ck_wrong")],
        403: [bearer(make_key()), bearer(make_key(scopes=["ops:write"]))],
    }
    for status, tried in keys.items():
        for headers in tried:
            for path in ("/api/ops/overview", "/api/ops/stream"):
                assert httpx.get(server.url + path, headers=headers, timeout=PATIENCE_S).status_code == status, path


def test_the_page_and_its_files_are_served_in_production_under_the_strict_policy(server: ApiServer) -> None:
    for path in ("/ops", "/static/ops/ops.js", "/static/ops/ops.css", "/static/ops/tokens.css", "/static/ops/icon.svg"):
        answer = httpx.get(server.url + path, timeout=PATIENCE_S)
        assert (answer.status_code, answer.headers["content-security-policy"]) == (200, POLICY), path
    for name in ("page.css", "..%2fpages%2fdemo.js", "index.html"):
        assert httpx.get(f"{server.url}/static/ops/{name}", timeout=PATIENCE_S).status_code == 404


def test_events_are_listed_of_the_keys_own_tenants_alone(server: ApiServer, db: psycopg.Connection[Row]) -> None:
    _post(server, make_key(["acme"]), id="e1")
    _post(server, make_key(["other"]), id="e2", tenant="other")
    _post(server, make_key(["other"]), id="e3", tenant="other")
    _fail(db, id="e1")
    _fail(db, id="e2")
    db.execute("UPDATE events SET state = 'fanning_out' WHERE id = 'e3'")
    db.execute(
        "INSERT INTO fan_out_chunks (event_key, number, after_key, up_to_key, state, notifications)"
        " SELECT e.key, n, n, n + 1, CASE WHEN n < 3 THEN 'done' ELSE 'pending' END, 10"
        " FROM events e CROSS JOIN generate_series(1, 5) n WHERE e.id = 'e3'"
    )
    every = _overview(server, make_key(None, ["ops:read"]))
    assert [(each["tenant"], each["id"]) for each in every["failed"]] == [("other", "e2"), ("acme", "e1")]
    (large,) = every["fanOuts"]
    assert (large["id"], large["chunks"], large["done"], large["notifications"]) == ("e3", 5, 2, 50)
    acme = _overview(server, make_key(["acme"], ["ops:read"]))
    assert ([each["id"] for each in acme["failed"]], acme["fanOuts"]) == (["e1"], [])
    assert acme["failed"][0]["error"] == "It could not be told."
    assert every["queues"]["failed"] == 2
    assert every["queues"]["open"] == {"fanning_out": 1}
    assert every["queues"]["ages"]["fan_out"] > 0


def test_a_retry_wants_its_own_scope_and_the_events_tenant_and_is_audited(
    server: ApiServer, db: psycopg.Connection[Row]
) -> None:
    _post(server, make_key(["acme"]), id="e1")
    _fail(db, id="e1")
    writer = make_key(["acme"], ["ops:read", "ops:write"])
    refused = {
        401: [_retry(server, None)],
        403: [_retry(server, make_key(["acme"], ["ops:read"])), _retry(server, make_key(["other"], ["ops:write"]))],
        404: [_retry(server, writer, id="e9"), _retry(server, writer, source="/other")],
        422: [_retry(server, writer, id=""), _retry(server, writer, more=1)],
    }
    assert {status: [each.status_code for each in told] for status, told in refused.items()} == {
        status: [status] * len(told) for status, told in refused.items()
    }
    assert db.execute("SELECT state FROM events").fetchone() == {"state": "failed"}
    assert _overview(server, make_key(["acme"], ["ops:read"]))["mayRetry"] is False
    assert _overview(server, writer)["mayRetry"] is True
    assert [_retry(server, writer).status_code for _ in range(2)] == [202, 404]
    assert db.execute("SELECT state, attempts, error FROM events").fetchone() == {
        "state": "accepted", "attempts": 0, "error": None,
    }  # fmt: skip
    told = db.execute("SELECT actor, tenant, subject FROM audit_log WHERE action = 'event.retried'").fetchall()
    assert told == [{"actor": f"key:{prefix_of(writer)}", "tenant": "acme", "subject": "e1"}]


def test_rates_and_streams_are_of_what_was_counted(server: ApiServer) -> None:
    key = make_key(None, ["ops:read"])
    assert _overview(server, key)["rates"]["accepted"] is None
    producer = make_key(["acme"])
    for number in range(3):
        _post(server, producer, id=f"e{number}")
    rates = eventually(lambda: _overview(server, key)["rates"], within=PATIENCE_S)
    told = eventually(lambda: rates["accepted"] or _overview(server, key)["rates"]["accepted"], within=PATIENCE_S)
    assert told > 0
    assert [each["streams"] for each in _overview(server, key)["streams"]] == [0]
    assert {each["task"] for each in _overview(server, key)["jobs"]} >= {"carillon.sweep", "carillon.cap"}


def test_the_stream_tells_again_and_again_and_ends_with_its_key(server: ApiServer, db: psycopg.Connection[Row]) -> None:
    key = make_key(None, ["ops:read"])
    told = []
    with httpx.stream("GET", f"{server.url}/api/ops/stream", headers=bearer(key), timeout=PATIENCE_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
            if len(told) == 2:
                db.execute("UPDATE producer_keys SET revoked_at = now()")
    assert told[0]["at"] < told[1]["at"] < told[-1]["at"]


def test_a_stop_does_not_wait_for_open_pages(server: ApiServer) -> None:
    headers = bearer(make_key(None, ["ops:read"]))
    with httpx.stream("GET", f"{server.url}/api/ops/stream", headers=headers, timeout=PATIENCE_S) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: overview"
        server.stop()
        assert list(lines)[-1] == ""
    assert "api.stopped" in server.output
    assert "timeout graceful shutdown exceeded" not in server.output


def test_in_development_the_servers_own_page_needs_no_key_and_no_other_page_gets_in(api_server: ApiServer) -> None:
    url = f"{api_server.url}/api/ops/overview"
    assert httpx.get(url, timeout=PATIENCE_S).json()["mayRetry"] is True
    for site in ("cross-site", "same-site"):
        assert httpx.get(url, headers={"sec-fetch-site": site}, timeout=PATIENCE_S).status_code == 403
    assert _retry(api_server, None).status_code == 403
