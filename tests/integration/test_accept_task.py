"""The Celery task for producers: signed messages through a real broker and worker, answered like HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
from celery import Celery
from redis import Redis
from standardwebhooks import Webhook

from shared import db, directory, signing
from shared.embedded import EmbeddedPostgres
from shared.settings import settings
from shared.wake import ACCEPT_QUEUE, ACCEPT_TASK
from tests.eventually import eventually
from tests.producers import TENANT, envelope, rows, stored
from tests.servers import Worker

DAY_S = 24 * 3600
#: A worker on a busy machine.
PATIENCE_S = 30.0


def _is_text(body: Any) -> bool:
    return isinstance(body, str) and "\ud800" not in body


class Producer:
    """A Celery application of somebody else, with one of our secrets."""

    def __init__(self, app: Celery, results: Redis, secret: tuple[str, str]) -> None:
        self.app = app
        self.results = results
        self.secret_id, self.secret = secret

    def headers(self, body: Any, id: str = "m1", age_s: int = 0) -> dict[str, str]:
        moment = datetime.fromtimestamp(int(time.time()) - age_s, UTC)
        return {
            "carillon-secret-id": self.secret_id,
            "webhook-id": id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": Webhook(self.secret).sign(id, moment, body if _is_text(body) else ""),
        }

    def send(self, body: Any, headers: dict[str, Any]) -> str:
        """Send, and return the key under which the result will stand."""
        return self.send_all([body], headers)

    def send_all(self, arguments: list[Any], headers: dict[str, Any]) -> str:
        """As `send`, with any number of arguments."""
        sent = self.app.send_task(ACCEPT_TASK, args=arguments, queue=ACCEPT_QUEUE, headers=headers)
        return f"celery-task-meta-{sent.id}"

    def result(self, name: str) -> dict[str, Any]:
        """Return the result once it is there."""
        found = json.loads(eventually(lambda: self.results.get(name), within=PATIENCE_S) or "")
        assert found["status"] == "SUCCESS", found
        told: dict[str, Any] = found["result"]
        return told

    def told(self, body: Any, **changes: Any) -> dict[str, Any]:
        """Send, and return the result; `changes` replace headers, None takes one away."""
        headers = {**self.headers(body), **changes}
        return self.result(self.send(body, {name: value for name, value in headers.items() if value is not None}))


def _secret(tenant: str = TENANT) -> tuple[str, str]:
    with db.transaction("*") as connection:
        directory.ensure_tenant(connection, tenant)
        return signing.create_secret(connection, "celery", tenant)


@pytest.fixture
def producer(configured: dict[str, str], broker_url: str, redis_url: str) -> Iterator[Producer]:
    """A producer of the tenant `acme` on the test's broker."""
    app = Celery("somebody-else", broker=broker_url, set_as_current=False)
    with Redis.from_url(redis_url) as results:
        yield Producer(app, results, _secret())
    app.close()


def _text(**changes: Any) -> str:
    return json.dumps(envelope(**changes))


def test_an_event_is_durable_when_its_result_is_there_and_a_duplicate_the_second_time(
    producer: Producer, worker: Worker, database_url: str
) -> None:
    told = [producer.told(_text()) for _ in range(2)]
    assert told == [{"events": [{"id": "e1", "status": status}]} for status in ("accepted", "duplicate")]
    assert rows(database_url, "SELECT tenant, source, id, registers FROM events") == [(TENANT, "/tests", "e1", False)]
    assert worker.output.count("Traceback") == 0


def test_every_refusal_is_the_problem_that_http_would_answer_and_stores_nothing(
    producer: Producer, worker: Worker, database_url: str
) -> None:
    body, most = _text(), settings().event_retention_days * DAY_S
    other = Producer(producer.app, producer.results, _secret("other"))
    with db.transaction("*") as connection:
        directory.ensure_tenant(connection, TENANT)
        github_id, _ = signing.create_secret(connection, "github", TENANT)
    refused = {
        "no secret id": (producer.told(body, **{"carillon-secret-id": None}), 401, []),
        "unknown secret": (producer.told(body, **{"carillon-secret-id": "sec_0"}), 401, []),
        "wrong purpose": (producer.told(body, **{"carillon-secret-id": github_id}), 401, []),
        "no signature": (producer.told(body, **{"webhook-signature": None}), 401, []),
        "signature of another text": (producer.told(body + " ", **producer.headers(body)), 401, []),
        "odd header": (producer.told(body, **{"webhook-timestamp": 7}), 401, []),
        "surrogate": (producer.told(body, **{"webhook-id": "\ud800"}), 401, []),
        "too old": (producer.told(body, **producer.headers(body, age_s=most + 60)), 401, []),
        "too early": (producer.told(body, **producer.headers(body, age_s=-600)), 401, []),
        "another's secret": (other.told(body), 403, ["tenant"]),
        "no text": (producer.told({"id": "e1"}), 400, []),
        "no argument": (producer.result(producer.send_all([], producer.headers(""))), 400, []),
        "two arguments": (producer.result(producer.send_all([body, body], producer.headers(body))), 400, []),
        "no json": (producer.told("{"), 400, []),
        "no UTF-8": (producer.told('"\ud800"'), 400, []),
        "unknown type": (producer.told(_text(type="no.such")), 422, ["type"]),
        "wrong data": (producer.told(_text(data={"student_id": 7, "achievement_id": "a", "title": "t"})), 422,
                       ["data.student_id"]),
        "too large": (producer.told(_text(subject="x" * settings().event_max_bytes)), 413, []),
    }  # fmt: skip
    for why, (problem, status, fields) in refused.items():
        named = [error["field"] for error in problem.get("errors", ())]
        assert (why, problem["status"], named) == (why, status, fields)
        assert {"type", "title", "status", "detail"} <= problem.keys()
    assert stored(database_url) == 0
    assert worker.output.count("Traceback") == 0


def test_its_lines_carry_the_producers_request_id_and_the_events_trace_id(
    producer: Producer, new_worker: Callable[..., Worker]
) -> None:
    worker = new_worker(CARILLON_LOG_FORMAT="json")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    good = _text(traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    assert producer.told(good, **{"x-request-id": "order-7"})["events"][0]["status"] == "accepted"
    assert producer.told("{}", **{"x-request-id": "order-8"})["status"] == 422
    without = producer.send("[]", producer.headers("[]"))
    assert producer.result(without)["status"] == 422
    lines = [json.loads(line) for line in worker.output.splitlines() if line.startswith("{")]
    told = {line["request_id"]: (line["event"], line.get("trace_id")) for line in lines if "request_id" in line}
    task_id = without.removeprefix("celery-task-meta-")
    assert told == {
        "order-7": ("event.accepted", trace),
        "order-8": ("accept.refused", None),
        task_id: ("accept.refused", None),
    }


def test_a_message_as_old_as_the_memory_of_events_is_still_taken(producer: Producer, worker: Worker) -> None:
    body = _text()
    old = producer.headers(body, age_s=settings().event_retention_days * DAY_S - 60)
    assert producer.told(body, **old)["events"] == [{"id": "e1", "status": "accepted"}]


def test_other_content_under_the_same_id_is_the_problem_of_a_conflict(
    producer: Producer, worker: Worker, database_url: str
) -> None:
    producer.told(_text())
    assert producer.told(_text(subject="x"))["status"] == 409
    assert stored(database_url) == 1


def test_a_result_is_kept_for_an_hour(producer: Producer, worker: Worker) -> None:
    name = producer.send(body := _text(), producer.headers(body))
    producer.result(name)
    assert 3_500 < producer.results.ttl(name) <= 3_600


def test_an_event_is_fanned_out_at_once(producer: Producer, worker: Worker, database_url: str) -> None:
    with db.transaction("*") as connection:
        directory.import_recipients(connection, [{"tenant": TENANT, "id": "ann"}])
    producer.told(_text())
    eventually(lambda: rows(database_url, "SELECT state FROM events") == [("done",)])
    assert rows(database_url, "SELECT recipient, unread FROM inboxes") == [("ann", 1)]


class TestWhileTheDatabaseIsAway:
    """The worker waits; the message is neither answered nor lost."""

    @pytest.fixture
    def database_url(self, private_postgres: EmbeddedPostgres) -> str:
        """A database whose server can be killed."""
        return private_postgres.url()

    def test_for_a_while_it_loses_no_event(
        self, private_postgres: EmbeddedPostgres, producer: Producer, worker: Worker
    ) -> None:
        producer.told(_text(id="before"))
        private_postgres.kill()
        body = _text(id="during")
        name = producer.send(body, producer.headers(body))
        eventually(lambda: "accept.waits" in worker.output, within=PATIENCE_S)
        assert producer.results.get(name) is None
        private_postgres.start()
        assert producer.result(name) == {"events": [{"id": "during", "status": "accepted"}]}
        assert rows(private_postgres.url(), "SELECT id FROM events ORDER BY key") == [("before",), ("during",)]

    def test_a_process_that_dies_while_it_waits_gives_its_message_back(
        self, private_postgres: EmbeddedPostgres, producer: Producer, new_worker: Callable[..., Worker]
    ) -> None:
        """Fails when messages are acknowledged before their work is done, or with the process that died of it."""
        worker = new_worker(concurrency=1)
        producer.told(_text(id="before"))
        private_postgres.kill()
        body = _text(id="during")
        name = producer.send(body, producer.headers(body))
        eventually(lambda: "accept.waits" in worker.output, within=PATIENCE_S)
        for child in psutil.Process(worker.pid).children():
            child.kill()
        private_postgres.start()
        assert producer.result(name) == {"events": [{"id": "during", "status": "accepted"}]}
        assert rows(private_postgres.url(), "SELECT id FROM events ORDER BY key") == [("before",), ("during",)]
