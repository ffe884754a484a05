"""One event's lines in the logs of every part, found by one id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest

from shared.following import TRACE_HEADER, trace_id_of
from shared.logs import log
from shared.settings import settings
from shared.wake import CHUNK_QUEUE, CHUNK_TASK
from tests import directory
from tests.directory import Row
from tests.eventually import eventually
from tests.listener import Listener, token_for
from tests.producers import STRUCTURED, TENANT, bearer, envelope, make_key, post, serving
from tests.servers import ApiServer, Child, Worker
from workers.app import app, wake

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, LEFT_OUT = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
#: A worker on a busy machine.
PATIENCE_S = 60.0
JSON_LINES = {"CARILLON_LOG_FORMAT": "json"}
Started = Callable[..., tuple[ApiServer, Worker]]
GRADE = {"student_id": "ann", "course_id": "c1", "course_title": "Sets"}


def lines_of(*parts: Child) -> list[dict[str, Any]]:
    """Return the parts' own lines."""
    told = [line for part in parts for line in part.output.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in told]


def about(id: str, *parts: Child) -> list[dict[str, Any]]:
    """Return the lines with that id, wherever in them it stands."""
    return [line for line in lines_of(*parts) if id in json.dumps(line)]


def failed(worker: Worker) -> list[dict[str, Any]]:
    """Return the lines of tasks that failed."""
    return [line for line in lines_of(worker) if line["event"] == "task.failed"]


@pytest.fixture
def started(new_api_server: Callable[..., ApiServer], new_worker: Callable[..., Worker]) -> Started:
    """Start an API process and a worker, whose lines are JSON."""
    return lambda **extra: (new_api_server(**JSON_LINES, **extra), new_worker(**JSON_LINES, **extra))


async def posted(server: ApiServer, key: str, event: dict[str, Any]) -> httpx.Response:
    headers = {**bearer(key), "content-type": STRUCTURED, "x-request-id": "deploy-7/req.42"}
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        answer = await client.post(f"{server.url}/api/events", json=event, headers=headers)
    assert answer.status_code == 202
    return answer


@pytest.mark.parametrize(
    ("every", "traceparent"), [("false", SAMPLED), ("true", None)], ids=["sampled by its producer", "every event"]
)
async def test_one_id_finds_an_event_in_api_worker_publishing_and_edge(
    configured: dict[str, str], db: psycopg.Connection[Row], started: Started, every: str, traceparent: str | None
) -> None:
    key = make_key()
    directory.add_recipients(db, TENANT, ["ann"])
    server, worker = started(CARILLON_LOG_EVENTS=every)
    event = envelope(traceparent=traceparent)
    id = trace_id_of(TENANT, event["source"], event["id"], traceparent)
    async with Listener(server.url, token_for(configured, "ann", tenant=TENANT)) as listener:
        answer = await posted(server, key, event)
        await listener.count(2, within=PATIENCE_S)
        await asyncio.to_thread(eventually, lambda: len(about(id, server, worker)) >= 4, PATIENCE_S)
    assert answer.headers["x-request-id"] == "deploy-7/req.42"
    told = sorted((line["event"], line["part"]) for line in about(id, server, worker))
    fan_out = [(f"event.{step}", "worker") for step in ("fanned_out", "published")]
    assert told == [("event.accepted", "api"), *fan_out, ("event.pushed", "api")]
    assert {line["trace_id"] for line in about(id, server, worker)} == {id}
    steps = {line["event"]: line for line in about(id, server, worker)}
    assert steps["event.accepted"]["request_id"] == "deploy-7/req.42"
    assert {steps["event.accepted"][name] for name in ("tenant", "source", "status")} == {TENANT, "/tests", "accepted"}
    assert (steps["event.fanned_out"]["recipients"], steps["event.published"]["messages"]) == (1, 1)
    assert steps["event.pushed"]["streams"] == 1
    assert len({steps[step]["event_key"] for step in ("event.fanned_out", "event.published", "event.pushed")}) == 1
    assert "First steps" not in server.output + worker.output


async def test_a_large_event_is_found_chunk_by_chunk(
    configured: dict[str, str], db: psycopg.Connection[Row], started: Started
) -> None:
    key = make_key()
    directory.add_recipients(db, TENANT, ["ann", "ben", "cyd", "dan"])
    server, worker = started(CARILLON_CHUNK_SIZE="2")
    data = {"title": "Maintenance", "message": "Tonight", "audience": {"everyone": True}}
    async with Listener(server.url, token_for(configured, "dan", tenant=TENANT)) as listener:
        await posted(server, key, envelope(type="system.announcement", data=data, traceparent=SAMPLED))
        await listener.count(2, within=PATIENCE_S)
        await asyncio.to_thread(eventually, lambda: len(about(TRACE, server, worker)) >= 6, PATIENCE_S)
    steps = [line for line in about(TRACE, worker) if line["part"] == "worker"]
    done = sorted((line["chunk"], line["recipients"]) for line in steps if line["event"] == "event.fanned_out")
    published = sorted((line["chunk"], line["messages"]) for line in steps if line["event"] == "event.published")
    assert (done, published, len(steps)) == ([(0, 2), (1, 2)], [(0, 1), (1, 1)], 4)
    pushed = [line["streams"] for line in about(TRACE, server) if line["event"] == "event.pushed"]
    assert pushed == [1]


def test_what_goes_wrong_is_found_by_the_same_id_and_nothing_is_told_of_the_rest(
    configured: dict[str, str], db: psycopg.Connection[Row], new_worker: Callable[..., Worker]
) -> None:
    directory.add_recipients(db, TENANT, ["ann"])
    bad = [envelope("bad", type="grade.posted", data=GRADE),
           envelope("worse", type="grade.posted", data=GRADE, traceparent=LEFT_OUT)]  # fmt: skip
    worker = new_worker(**JSON_LINES)
    for event in (*bad, envelope("good", traceparent=LEFT_OUT.replace("4bf", "5bf"))):
        db.execute("SELECT carillon_publish(%s::jsonb)", (json.dumps(event),))
    wake()
    eventually(lambda: directory.count(db, "events WHERE state IN ('done', 'failed')") == 3, within=PATIENCE_S)
    expected = {trace_id_of(TENANT, "/tests", "bad"), TRACE}
    eventually(lambda: len([line for line in lines_of(worker) if "trace_id" in line]) >= 2, within=PATIENCE_S)
    told = [(line["event"], line["trace_id"]) for line in lines_of(worker) if "trace_id" in line]
    assert sorted(told) == sorted(("event.refused", id) for id in expected)
    assert {len(line["task_id"]) for line in lines_of(worker) if "trace_id" in line} == {36}


def test_a_task_that_fails_is_logged_with_its_id_and_the_trace_id_of_its_message(
    configured: dict[str, str], new_worker: Callable[..., Worker]
) -> None:
    worker = new_worker(**JSON_LINES)
    for given in (TRACE, f"{TRACE}\n", None):
        headers = {} if given is None else {TRACE_HEADER: given}
        app.send_task(CHUNK_TASK, args=["none", "such"], queue=CHUNK_QUEUE, headers=headers, task_id=f"t{given}")
    eventually(lambda: len(failed(worker)) == 3, within=PATIENCE_S)
    told = {line["task_id"]: line.get("trace_id") for line in failed(worker)}
    assert told == {f"t{TRACE}": TRACE, f"t{TRACE}\\x0a": None, "tNone": None}


async def test_every_answer_names_its_request_and_bodies_stay_the_same(api: httpx.AsyncClient, key: str) -> None:
    """A problem's body must not tell apart what must look the same; its header does."""
    missing = [await api.get("/api/events/none?source=/tests&tenant=acme", headers=bearer(key)) for _ in range(2)]
    assert [each.status_code for each in missing] == [404, 404]
    assert missing[0].json() == missing[1].json()
    assert set(missing[0].json()) == {"type", "title", "status", "detail"}
    ids = [each.headers["x-request-id"] for each in missing]
    assert len(set(ids)) == 2
    assert {len(id) for id in ids} == {32}
    for given, taken in (("abc-1", True), ("x" * 65, False), ("a b", False), ('"', False)):
        answer = await api.get("/healthz", headers={"x-request-id": given})
        assert (answer.headers["x-request-id"] == given) is taken, given
        assert len(answer.headers.get_list("x-request-id")) == 1


async def test_lines_of_a_request_carry_its_id_and_later_ones_do_not(
    configured: dict[str, str], key: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CARILLON_LOG_FORMAT", "json")
    settings.cache_clear()
    async with serving() as api:
        assert (await post(api, key, envelope(traceparent=LEFT_OUT))).status_code == 202
        path = "/api/events/e1?source=/tests&tenant=acme"
        assert (await api.delete(path, headers={**bearer(key), "x-request-id": "mine"})).status_code == 202
        log().info("after.all")
    told = [json.loads(line) for line in "".join(capfd.readouterr()).splitlines() if line.startswith("{")]
    (cancelled,) = [line for line in told if line["event"] == "event.cancelled"]
    assert (cancelled["request_id"], cancelled["trace_id"]) == ("mine", TRACE)
    assert [line.get("request_id") for line in told if line["event"] == "after.all"] == [None]
