"""What operators alone may see or do, in production too, and what is no HTTP at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.attacks.harness import COUNT, JSON, PAGE, Case, Target, ask, targeted
from tests.edge import new_database, running_edge
from tests.writer import TENANT

NO = (401, "unauthenticated")
NEVER = (403, "forbidden")
NOTHING = (404, "not-found")
CONNECTIONS = "/api/stream/connections"


def key(*scopes: str) -> Any:
    return lambda target: f"Bearer {target.key(*scopes)}"


def revoking(body: Any, authorization: Any, status: int, problem: str, name: str, *, kind: str = JSON) -> Case:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = ask("POST", "/api/revocations", sent, content_type=kind, authorization=authorization)
    return Case(name, request, status, problem)


SOMEBODY = {"tenant": TENANT, "recipient": "ann"}
DIRECTORY = key("directory:write")
CASES = [
    Case("the connections without a key", ask("GET", CONNECTIONS), *NO),
    Case("the connections with a recipient's token", ask("GET", CONNECTIONS, authorization=lambda t: t.bearer()), *NO),
    Case("the connections with a producer's key",
         ask("GET", CONNECTIONS, authorization=key("events:write")), *NEVER),
    Case("the connections with a cookie", ask("GET", CONNECTIONS, cookie=lambda t: t.cookie()), *NO),
    Case("a tenant by a key of one tenant",
         ask("PUT", "/api/tenants/mine", authorization=key("directory:write")), *NEVER),
    Case("another tenant's directory",
         ask("GET", "/api/recipients/south/ann", authorization=key("directory:write")), *NEVER),
    revoking(SOMEBODY, "", *NO, "a revocation without a key"),
    revoking(SOMEBODY, lambda t: t.bearer(), *NO, "a revocation by a recipient"),
    revoking(SOMEBODY, key("events:write"), *NEVER, "a revocation without the scope"),
    revoking({**SOMEBODY, "tenant": "south"}, DIRECTORY, *NEVER, "a revocation in another tenant"),
    revoking({"tenant": TENANT, "recipient": ""}, DIRECTORY, 422, "invalid-input", "a revocation of nobody"),
    revoking({"tenant": TENANT, "recipient": None, "x": 1}, DIRECTORY, 422, "invalid-input", "an unknown field"),
    revoking(b'{"tenant":"north","tenant":"south"}', DIRECTORY, 422, "invalid-input", "a tenant that is told twice"),
    revoking(b"{", DIRECTORY, 400, "malformed-body", "a revocation that is no JSON"),
    revoking(b"tenant=north", DIRECTORY, 415, "unsupported-content-type", "a form", kind="text/plain"),
    revoking(b"[" * 5000, DIRECTORY, 413, "body-too-large", "a revocation of 5,000 bytes"),
    Case("a request to be another's address",
         ask("GET", PAGE, x_forwarded_for="127.0.0.1", x_real_ip="127.0.0.1", forwarded="for=127.0.0.1"), *NO),
    Case("a path that climbs", ask("GET", "/static/pages/..%2f..%2f..%2fpyproject.toml"), 404, "about:blank"),
    Case("a file of the description that is none", ask("GET", "/docs/..%2fmain.py"), 404, "about:blank"),
    Case("a method that is none", ask("BREW", PAGE), 400, "malformed-request"),
    Case("a place that is none", ask("GET", "/api/admin"), 404, "about:blank"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operators(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.fixture(scope="module")
def production(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """The same in production."""
    folder = tmp_path_factory.mktemp("production")
    with new_database(postgres) as url:
        settings = {
            "CARILLON_ENVIRONMENT": "production",
            "CARILLON_DATABASE_URL": postgres.application_url(url.rpartition("/")[2]),
            "CARILLON_FLOWER_PASSWORD": "kP3vXq9Zu7TbWm2L",
        }
        with running_edge(url, shared_redis.url(), folder, **settings) as edge:
            # The tests write and look as the tables' owner.
            owned = replace(edge, environment={**edge.environment, "CARILLON_DATABASE_URL": url})
            with targeted(owned) as made:
                yield made


def retrying(name: str, body: Any, authorization: Any, status: int, problem: str) -> Case:
    sent = ask("POST", "/api/ops/events/retry", json.dumps(body).encode(), content_type=JSON,
               authorization=authorization)  # fmt: skip
    return Case(name, sent, status, problem)


OVERVIEW = "/api/ops/overview"
SOMETHING = {"tenant": TENANT, "source": "/s", "id": "e1"}
HSTS: dict[str, str | None] = {"strict-transport-security": "max-age=31536000"}
IN_PRODUCTION = [
    *(Case(f"{path} is not there", ask("GET", path), *NOTHING)
      for path in ("/docs", "/docs/start.js", "/docs/oauth2-redirect", "/api/demo/people", "/static/pages/main.js")),
    *(Case(f"{path} is no place", ask("GET", path), 404, "about:blank")
      for path in ("/openapi.json", "/redoc", "/debug", "/.env")),
    Case("a test notification", ask("POST", "/api/test/notifications", authorization=lambda t: t.bearer()), *NOTHING),
    Case("the connections are not public", ask("GET", CONNECTIONS), *NO),
    Case("the operators' numbers are not public", ask("GET", OVERVIEW), *NO),
    Case("nor for a page of the server's own", ask("GET", OVERVIEW, sec_fetch_site="same-origin"), *NO),
    Case("the operators' stream is not public", ask("GET", "/api/ops/stream"), *NO),
    Case("the operators' numbers with a recipient's token",
         ask("GET", OVERVIEW, authorization=lambda t: t.bearer(roles=["super_admin"])), *NO),
    Case("the operators' numbers with a producer's key", ask("GET", OVERVIEW, authorization=key("events:write")),
         *NEVER),
    Case("the operators' files are no others", ask("GET", "/static/ops/..%2f..%2f..%2fpyproject.toml"), 404,
         "about:blank"),
    retrying("nobody's retry", SOMETHING, "", *NO),
    retrying("a retry by who may look alone", SOMETHING, key("ops:read"), *NEVER),
    retrying("a retry in another tenant", {**SOMETHING, "tenant": "south"}, key("ops:write"), *NEVER),
    retrying("a retry of what did not fail", SOMETHING, key("ops:write"), *NOTHING),
    retrying("a retry of everything", {**SOMETHING, "id": None}, key("ops:write"), 422, "invalid-input"),
    retrying("a retry with a field more", {**SOMETHING, "all": True}, key("ops:write"), 422, "invalid-input"),
    Case("the metrics are not public", ask("GET", "/metrics"), *NO),
    Case("the metrics with a recipient's token", ask("GET", "/metrics", authorization=lambda t: t.bearer()), *NO),
    Case("the metrics with a producer's key", ask("GET", "/metrics", authorization=key("events:write")), *NEVER),
    Case("an answer tells to come by https", ask("GET", COUNT, authorization=lambda t: t.bearer()), 200, has=HSTS),
    Case("a development cookie", ask("GET", PAGE, cookie=lambda t: t.cookie().removeprefix("__Host-")), *NO),
    Case("a page of any origin, where none is allowed",
         ask("OPTIONS", PAGE, origin="https://evil.example", access_control_request_method="GET"), 405, "about:blank",
         has={"access-control-allow-origin": None}),
]  # fmt: skip


@pytest.mark.parametrize("case", IN_PRODUCTION, ids=str)
def test_production(production: Target, case: Case) -> None:
    production.judge(case)
