"""`GET /metrics` over real processes: what is counted where, who may read it, and what an outage leaves of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.embedded import EmbeddedPostgres
from shared.metrics import Metric
from tests import directory
from tests.directory import Row
from tests.eventually import eventually
from tests.listener import Listener, token_for
from tests.producers import STRUCTURED, TENANT, bearer, envelope, make_key
from tests.servers import ApiServer, Worker

#: A worker that was woken, on a machine that is busy with other things.
PATIENCE_S = 30.0
Samples = dict[tuple[str, ...], float]


def samples_of(url: str, **headers: str) -> Samples:
    """Return what a server's exposition says, by name and labels' values in their names' order."""
    answer = httpx.get(f"{url}/metrics", headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    samples = [each for family in text_string_to_metric_families(answer.text) for each in family.samples]
    return {(each.name, *(each.labels[name] for name in sorted(each.labels))): each.value for each in samples}


def _post(url: str, key: str, **changes: str) -> httpx.Response:
    headers = {**bearer(key), "content-type": STRUCTURED}
    return httpx.post(f"{url}/api/events", json=envelope(**changes), headers=headers, timeout=PATIENCE_S)


@pytest.fixture
def _ann(configured: dict[str, str]) -> None:
    with directory.connect(configured["CARILLON_DATABASE_URL"]) as connection:
        directory.add_recipients(connection, TENANT, ["ann"])


@pytest.mark.usefixtures("_ann")
async def test_an_event_is_counted_from_its_posting_to_the_socket(
    configured: dict[str, str], api_server: ApiServer, worker: Worker
) -> None:
    key = make_key()
    async with Listener(api_server.url, token_for(configured, "ann", 3600, TENANT)):
        assert [_post(api_server.url, key, id=id).status_code for id in ("e1", "e1", "e2")] == [202, 202, 202]
        assert _post(api_server.url, key, id="e3", type="no.such.type").status_code == 422
        assert _post(api_server.url, "ck_wrong", id="e3").status_code == 401
        told = eventually(lambda: _if_told(api_server.url, 2), within=PATIENCE_S) or {}
    assert told["carillon_events_total", "accepted"] == 2
    assert told["carillon_events_total", "duplicate"] == 1
    assert told["carillon_events_refused_total", "invalid-input"] == 1
    assert told["carillon_events_refused_total", "unauthenticated"] == 1
    assert told["carillon_fan_outs_total", "done"] == 2
    assert told["carillon_notifications_total", "urgent"] == 2
    assert told["carillon_type_commits_total", "achievement.awarded"] == 2
    assert told["carillon_event_to_commit_seconds_count", "urgent"] == 2
    assert told["carillon_published_messages_total",] == 2
    assert told["carillon_frames_total",] == 2
    assert told["carillon_commit_to_socket_seconds_count",] >= 1
    assert told["carillon_streams",] == 1
    assert told["carillon_streams_begun_total", "fresh"] == 1
    assert told["carillon_tasks_total", "success", "carillon.fan_out"] >= 1
    assert told["carillon_task_last_success_timestamp_seconds", "carillon.fan_out"] > 0
    assert told["carillon_processes", "api"] == 1
    assert told["carillon_processes", "worker"] == 2


def _if_told(url: str, frames: int) -> Samples | None:
    told = samples_of(url)
    written = told["carillon_frames_total",] >= frames and told.get(("carillon_commit_to_socket_seconds_count",))
    # The task ends when nothing has come for a while.
    ended = told.get(("carillon_tasks_total", "success", "carillon.fan_out"))
    return told if written and ended and told.get(("carillon_published_messages_total",)) == frames else None


def test_two_servers_tell_the_same_of_all_processes_also_of_one_that_was_killed(
    configured: dict[str, str], new_api_server: Callable[..., ApiServer]
) -> None:
    one, two = new_api_server(), new_api_server()
    key = make_key()
    assert [_post(server.url, key, id=id).status_code for server, id in ((one, "a"), (two, "b"))] == [202, 202]
    assert [samples_of(each.url)["carillon_events_total", "accepted"] for each in (one, two)] == [2, 2]
    two.kill()
    told = samples_of(one.url)
    assert (told["carillon_events_total", "accepted"], told["carillon_processes", "api"]) == (2, 1)


def test_queues_and_lanes_are_measured_when_asked(
    configured: dict[str, str], db: psycopg.Connection[Row], api_server: ApiServer
) -> None:
    key = make_key()
    assert _post(api_server.url, key).status_code == 202
    db.execute("UPDATE events SET accepted_at = clock_timestamp() - interval '40 s'")
    db.execute("INSERT INTO heartbeats (lane, beaten_at) VALUES ('urgent', clock_timestamp() - interval '90 s')")
    assert _post(api_server.url, key, id="failed").status_code == 202
    db.execute("UPDATE events SET state = 'failed' WHERE id = 'failed'")
    told = samples_of(api_server.url)
    assert 40 <= told["carillon_queue_age_seconds", "urgent"] < 400
    assert told["carillon_queue_age_seconds", "fan_out"] == 0
    assert told["carillon_lane_silence_seconds", "urgent"] >= 90
    assert told["carillon_open_events", "accepted"] == 1
    assert told["carillon_failed_events",] == 1
    assert {name: told["carillon_up", name] for name in ("database", "redis", "broker")} == dict.fromkeys(
        ("database", "redis", "broker"), 1
    )
    assert told["carillon_broker_messages", "carillon.urgent"] >= 0


def test_every_metric_is_told_and_described(api_server: ApiServer) -> None:
    answer = httpx.get(f"{api_server.url}/metrics", timeout=PATIENCE_S)
    told = {family.name: family for family in text_string_to_metric_families(answer.text)}
    for name, metric in Metric.ALL.items():
        family = told[name.removesuffix("_total")]
        assert family.documentation == metric.help
    assert answer.headers["content-type"].startswith("text/plain; version=")


def test_in_production_a_scraper_shows_its_token_or_an_operators_key(
    production: dict[str, str], configured: dict[str, str], new_api_server: Callable[..., ApiServer]
) -> None:
    token = secrets.token_urlsafe(32)
    server = new_api_server(**production, CARILLON_METRICS_TOKEN=token)
    url = f"{server.url}/metrics"
    wrong = {
        401: [{}, bearer("ck_wrong"), bearer(token[:-1]), {"authorization": f"Basic {token}"}, bearer("schlüssel")],
        403: [bearer(make_key())],
        200: [bearer(token), bearer(make_key(scopes=["ops:read"]))],
    }
    for status, tried in wrong.items():
        for headers in tried:
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            assert httpx.get(url, headers=raw, timeout=PATIENCE_S).status_code == status, (status, headers)


def test_without_the_database_the_counters_are_told_all_the_same(
    private_postgres: EmbeddedPostgres, new_api_server: Callable[..., ApiServer]
) -> None:
    server = new_api_server(CARILLON_DATABASE_URL=private_postgres.url())
    private_postgres.kill()
    told = eventually(lambda: _if_away(server.url), within=PATIENCE_S) or {}
    assert (told["carillon_up", "redis"], told["carillon_slow_readers_total",]) == (1, 0)
    assert ("carillon_queue_age_seconds", "urgent") not in told


def _if_away(url: str) -> Samples | None:
    told = samples_of(url)
    return told if told["carillon_up", "database"] == 0 else None
