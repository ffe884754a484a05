"""What was secret is in no log, wherever somebody put it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.attacks.harness import COUNT, JSON, PAGE, SESSION, STREAM, Bytes, ask, targeted
from tests.edge import new_database, running_edge
from tests.eventually import eventually

#: Paths that are right, that are nearly right, and that lead nowhere.
PATHS = (
    STREAM,
    "/api/notifications/subscribe",
    PAGE,
    "/api/notifications/streem",
    "/",
    "/docs",
    "/graphql",
    "/no/where",
)
#: Names that a secret is passed by, some of them by mistake.
NAMES = ("ticket", "token", "%74icket", "TICKET", "tokens", "access_token", "key", "jwt", "x[token]", "a;token")


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_secret_is_in_any_log(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path: Path, log_format: str
) -> None:
    extra = {"CARILLON_LOG_FORMAT": log_format, "CARILLON_LOG_LEVEL": "debug", "CARILLON_ALLOW_TOKEN_IN_QUERY": "true"}
    with (
        new_database(postgres) as url,
        running_edge(url, shared_redis.url(), tmp_path, **extra) as edge,
        targeted(edge) as target,
    ):
        token, key, ticket = target.token(), target.key("events:write"), target.ticket()
        cookie = target.cookie()
        secrets = {token, key, ticket, cookie.partition("=")[2], edge.environment["CARILLON_JWT_SECRET"]}
        used = target.ticket()
        for path in (f"{STREAM}?ticket={used}", f"{STREAM}?token={token}"):
            assert ask("GET", path).send(target).status == 200
        for secret in (token, key, ticket):
            for path in PATHS:
                for name in NAMES:
                    ask("GET", f"{path}?{name}={secret}&n=1").send(target)
            ask("GET", PAGE, authorization=f"Bearer {secret}x").send(target)
            ask("GET", PAGE, cookie=f"carillon={secret}").send(target)
            ask("POST", "/graphql", f'{{"query":"{secret}"}}'.encode(), content_type=JSON,
                authorization=f"Bearer {token}").send(target)  # fmt: skip
            ask("POST", "/api/events", f'{{"id":"{secret}"}}'.encode(), content_type="application/cloudevents+json",
                authorization=f"Bearer {key}").send(target)  # fmt: skip
            Bytes(f"GET /x?ticket={secret} HTTP/9.9\r\n\r\n".encode()).send(target)
        ask("GET", COUNT, cookie=cookie).send(target)
        ask("DELETE", SESSION, cookie=cookie, sec_fetch_site="same-origin").send(target)
        ask("GET", f"/marker-{time.monotonic_ns()}").send(target)
        eventually(lambda: "/marker-" in edge.server.output)
        edge.server.stop()
        output = edge.server.output
        told = [secret for secret in (*secrets, used) if secret in output]
    assert told == []
    assert output.count("/api/notifications/streem?…") == 3 * len(NAMES)
    assert "\x1b" not in output
