"""Traces, told to a collector of our own: from the producer's span over acceptance and fan-out to the push."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared import traces
from shared.errors import StartError
from shared.settings import settings
from shared.tokens import make_token
from shared.wake import FAN_OUT_TASK
from tests import directory
from tests.eventually import eventually
from tests.producers import STRUCTURED, TENANT, bearer, envelope, make_key, rows
from tests.servers import ApiServer, Worker
from workers.app import app

#: Batches of spans are sent every five seconds.
PATIENCE_S = 60.0
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                scopes = [scope for each in request.resource_spans for scope in each.scope_spans]
                collector.spans += [span for scope in scopes for span in scope.spans]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        """Where it takes spans."""
        return f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def stop(self) -> None:
        """End."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


def test_a_traced_event_is_told_from_its_acceptance_to_its_push_as_children_of_the_producers_span(
    configured: dict[str, str],
    collector: Collector,
    new_api_server: Callable[..., ApiServer],
    new_worker: Callable[..., Worker],
) -> None:
    extra = {"CARILLON_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    key = make_key()
    with directory.connect(configured["CARILLON_DATABASE_URL"]) as connection:
        directory.add_recipients(connection, TENANT, ["ann"])
    server = new_api_server(**extra)
    new_worker(**extra)
    headers = {**bearer(key), "content-type": STRUCTURED}
    stream, token = f"{server.url}/api/notifications/stream", make_token(TENANT, "ann")
    with httpx.stream("GET", stream, headers=bearer(token), timeout=30) as opened:
        assert opened.status_code == 200
        for id, flags in (("sampled", "01"), ("left-out", "00")):
            event = envelope(id, traceparent=f"00-{TRACE}-{PARENT}-{flags}")
            assert httpx.post(f"{server.url}/api/events", json=event, headers=headers, timeout=30).status_code == 202
        bare = envelope("bare")
        assert httpx.post(f"{server.url}/api/events", json=bare, headers=headers, timeout=30).status_code == 202
        eventually(lambda: len(collector.spans) >= 4, within=PATIENCE_S)
    spans = {span.name: span for span in collector.spans}
    names = [f"carillon.{step}" for step in ("accept", "fan_out", "publish", "push")]
    assert sorted(span.name for span in collector.spans) == names
    for span in collector.spans:
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    committed = spans["carillon.fan_out"].end_time_unix_nano
    assert {spans[name].start_time_unix_nano for name in ("carillon.publish", "carillon.push")} == {committed}
    told = {each.key: each.value.string_value for each in spans["carillon.accept"].attributes}
    assert told == {"carillon.id": "sampled", "carillon.type": "achievement.awarded"}


def test_a_worker_that_ends_tells_its_last_spans_first(
    configured: dict[str, str],
    collector: Collector,
    new_worker: Callable[..., Worker],
) -> None:
    """Without that, spans of the last minute would be lost: so long is the time between two batches here."""
    extra = {"CARILLON_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    database = configured["CARILLON_DATABASE_URL"]
    with directory.connect(database) as connection:
        directory.add_recipients(connection, TENANT, ["ann"])
        worker = new_worker(**extra)
        event = envelope(traceparent=f"00-{TRACE}-{PARENT}-01")
        connection.execute("SELECT carillon_publish(%s::jsonb)", (json.dumps(event),))
    app.send_task(FAN_OUT_TASK)
    eventually(lambda: rows(database, "SELECT FROM events WHERE state = 'done' AND published = 1"), within=PATIENCE_S)
    assert collector.spans == []
    worker.stop()
    assert sorted(span.name for span in collector.spans) == ["carillon.fan_out", "carillon.publish"]


def test_a_stop_does_not_wait_for_a_collector_that_is_away(
    configured: dict[str, str], new_api_server: Callable[..., ApiServer]
) -> None:
    server = new_api_server(CARILLON_OTLP_ENDPOINT="http://127.0.0.1:9/v1/traces")
    headers = {**bearer(make_key()), "content-type": STRUCTURED}
    event = envelope(traceparent=f"00-{TRACE}-{PARENT}-01")
    assert httpx.post(f"{server.url}/api/events", json=event, headers=headers, timeout=30).status_code == 202
    server.stop()
    assert "api.stopped" in server.output
    assert "api.close_abandoned" not in server.output


def test_without_a_collector_no_span_is_made(configured: dict[str, str]) -> None:
    traces.tell("carillon.accept", f"00-{TRACE}-{PARENT}-01", 1.0, 2.0)
    assert traces._provider() is None
    traces.end()


def test_a_start_that_wants_traces_and_cannot_make_them_says_what_to_install(
    configured: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARILLON_OTLP_ENDPOINT", "http://127.0.0.1:4318/v1/traces")
    settings.cache_clear()
    traces.require()
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(StartError, match="install the extra `tracing`"):
        traces.require()
