"""The Celery application: every setting of the engine with its reason, the base task, and `wake()`.

Celery carries wake-ups and chunk work. What is to be done stands in PostgreSQL: a lost message costs a sweep (a second
or two), a doubled one finds nothing left to do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from celery import Celery, Task, signals
from structlog.contextvars import bound_contextvars

import beat_schedule
from shared import broker as quorum
from shared import databases, db, metrics, traces
from shared.catalog import catalog
from shared.databases import SHARED
from shared.errors import StartError, tell_in_one_sentence
from shared.following import TRACE_HEADER, told_trace
from shared.garbage import tune_gc
from shared.logs import configure_logs, log, place_of
from shared.settings import settings
from shared.stream_redis import AWAY
from shared.wake import (
    ACCEPT_QUEUE,
    ACCEPT_TASK,
    CHUNK_QUEUE,
    CHUNK_TASK,
    DATABASE_HEADER,
    FAN_OUT_QUEUE,
    FAN_OUT_TASK,
    MAINTENANCE_QUEUE,
    ask,
    database_headers,
)
from workers import broker
from workers.publish import forget_connections, redis_client

#: A broker or Redis that does not answer within this is away.
BROKER_TIMEOUT_S = 5.0
#: Between two looks whether the broker still answers on the connections that wait for it.
HEALTH_CHECK_S = 4
#: A task ends within these, or is broken: a fan-out loops for 10 s at most, one statement may take 30 s.
SOFT_LIMIT_S = 60
HARD_LIMIT_S = 90
#: Longer than any task may run, so that only what was lost with its worker is delivered again.
VISIBILITY_TIMEOUT_S = 120
#: Of the 45 s that a stop may take; 4 of 20 busy workers needed over 20 s.
SOFT_SHUTDOWN_S = 30.0
#: An accept task's answer: a producer that has not fetched it by then treats the event as not acknowledged.
RESULT_EXPIRES_S = 3_600

FAN_OUT_ONE_TASK = "carillon.fan_out_one"
FORWARD_TASK = "carillon.forward"
PLAN_TASK = "carillon.plan_chunks"
WITHDRAW_TASK = "carillon.withdraw"

ROUTES = {
    ACCEPT_TASK: {"queue": ACCEPT_QUEUE},
    FAN_OUT_TASK: {"queue": FAN_OUT_QUEUE},
    FAN_OUT_ONE_TASK: {"queue": FAN_OUT_QUEUE},
    FORWARD_TASK: {"queue": FAN_OUT_QUEUE},
    PLAN_TASK: {"queue": CHUNK_QUEUE},
    CHUNK_TASK: {"queue": CHUNK_QUEUE},
    WITHDRAW_TASK: {"queue": MAINTENANCE_QUEUE},
}

#: What the tasks' arguments are.
ARGUMENTS = {
    FAN_OUT_ONE_TASK: ("event",),
    PLAN_TASK: ("event",),
    CHUNK_TASK: ("event", "chunk"),
    WITHDRAW_TASK: ("event",),
}


def configuration() -> dict[str, Any]:
    """Return Celery's settings; read when they are first needed, so that importing a task needs no server."""
    tell_in_one_sentence()
    url, redis = settings().broker_url, settings().result_url or settings().redis_url
    if url is None or redis is None:
        raise StartError("No broker: set CARILLON_BROKER_URL and CARILLON_REDIS_URL, or start with `make up`.")
    return {
        **_of_broker(url.get_secret_value()),
        # Only the accept task keeps a result; every other task's would be written for nobody.
        "result_backend": redis.get_secret_value(),
        "task_ignore_result": True,
        "result_expires": RESULT_EXPIRES_S,
        # JSON in and out: whoever reaches the broker must not be able to run code (pickle would).
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        # Messages carry times (when one expires): they mean the same on every host.
        "enable_utc": True,
        "timezone": "UTC",
        # Acknowledged when done; a killed process's message goes back, marked as redelivered.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # A task killed at its hard limit goes back with that mark too, so that its events are tried in small groups.
        "task_acks_on_failure_or_timeout": False,
        # A process that dies is replaced at once, not up to 5 s later.
        "worker_pool": "workers.pool:TaskPool",
        # No worker hoards chunks that another could run.
        "worker_prefetch_multiplier": 1,
        "task_soft_time_limit": SOFT_LIMIT_S,
        "task_time_limit": HARD_LIMIT_S,
        # A worker outlives any outage of its broker (the default gives up after 100 tries).
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A broker that refuses (out of memory, loading) is tried again as one that is away; else the worker ends.
        "broker_channel_error_retry": True,
        # Nobody waits for the broker: what could not be sent is found by the sweeper.
        "task_publish_retry": False,
        # A running fan-out is finished when the broker goes away; if its message comes again, it finds nothing to do.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # After SIGTERM, running tasks get this long before they are put back.
        "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_S,
        # Lanes of their own: a person's one event does not wait behind an announcement's chunks.
        "task_routes": ROUTES,
        "task_default_queue": MAINTENANCE_QUEUE,
        # For Flower; all of them would cost a third of the tasks a core can run: workers/task_events.py bounds them.
        "worker_send_task_events": settings().task_events_per_second > 0,
        "task_send_sent_event": False,
        # The log is ours (structlog), and so is standard output.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "beat_schedule": beat_schedule.SCHEDULE,
        # Only intervals, whose jobs may run twice: nothing to remember, no file that two beats would fight over.
        "beat_scheduler": "workers.beat:BoundedScheduler",
    }


def _of_broker(url: str) -> dict[str, Any]:
    """Return what is told of a broker: RabbitMQ, or Redis."""
    if quorum.is_amqp(url):
        told = quorum.celery_settings(BROKER_TIMEOUT_S)
        return {"broker_url": url, **told, "worker_consumer": "workers.quorum:QuorumConsumer"}
    options = {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        # Every 5 s look for messages that lost their worker (kombu's default: every 100 s).
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # A worker that hears nothing from its broker (a cut without an end) connects anew after 2 of these and 1 s;
        # kombu's default of 25 s leaves it deaf for almost a minute.
        "health_check_interval": HEALTH_CHECK_S,
        "socket_timeout": BROKER_TIMEOUT_S,
        "socket_connect_timeout": BROKER_TIMEOUT_S,
        "socket_keepalive": True,
    }
    return {"broker_url": url, "broker_transport_options": options}


class CarillonTask(Task):  # type: ignore[misc]
    """A task whose failure is logged by type and place alone: messages of database errors quote payloads."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task in the database that its message names; called as a function: where the caller works."""
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        headers = self.request.headers or {}
        with (
            databases.working_in(headers.get(DATABASE_HEADER, SHARED)),
            bound_contextvars(task_id=self.request.id, **told_trace(headers)),
        ):
            return self.run(*args, **kwargs)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Log that the task raised."""
        ids = {"task_id": task_id, **told_trace(self.request.headers or {})}
        log().error("task.failed", task=self.name, reason=type(exc).__name__, where=place_of(exc), **ids)


app = Celery(
    "carillon",
    task_cls=CarillonTask,
    amqp="workers.broker:Amqp",
    events="workers.task_events:SampledEvents",
    include=[
        "workers.accept",
        "workers.fan_out",
        "workers.forward",
        "workers.standby",
        "workers.chunks",
        "workers.cancel",
        "workers.sweep",
        "workers.retention",
        "workers.counters",
        "workers.presence",
        "workers.failed_logins",
        "workers.heartbeat",
        "workers.measure",
    ],
)
app.add_defaults(configuration)


def send(name: str, *args: int | str, trace_id: str | None = None) -> bool:
    """Queue a task in its lane, for the database that this one works in; `trace_id`: of the one event that it is about.

    Returns False, logged, where the broker is away. Arguments are ids only.

    While it is known to be away nothing is tried, which would cost `BROKER_TIMEOUT_S` each time; the thread that stands
    in for it runs the task here and now.
    """
    if broker.away.is_set():
        if broker.stands_in():
            app.tasks[name](*args)
            return True
        log().warning("task.not_sent", task=name, reason="away")
        return False
    try:
        headers = database_headers(databases.current()) or {}
        if trace_id is not None:
            headers[TRACE_HEADER] = trace_id
        bounds = quorum.sending(BROKER_TIMEOUT_S)
        app.send_task(name, args=args, headers=headers or None, retry=False, argsrepr=told_args(name, args), **bounds)
    except (*AWAY, *quorum.AWAY, *app.connection_for_write().connection_errors) as error:
        log().warning("task.not_sent", task=name, reason=type(error).__name__)
        return False
    return True


def told_args(name: str, args: Sequence[int | str]) -> str:
    """Return a task's arguments as Flower shows them, as in `event 1234, chunk 5`."""
    words = ARGUMENTS.get(name, ())
    return ", ".join(f"{word} {value}" for word, value in zip_longest(words, args, fillvalue="")).strip()


def wake() -> bool:
    """Ask for a look at the queue of record, after a commit. One wake-up that is already queued is enough.

    Returns False where the broker is away: then the sweeper finds the events within two seconds. Never raises.
    """
    if broker.away.is_set():
        return False
    return _is_queued() or send(FAN_OUT_TASK)


def _is_queued() -> bool:
    """Tell whether no wake-up is to be sent. Where Redis cannot tell, the broker may still take one more."""
    try:
        return not ask(redis_client(), databases.current())
    except AWAY as error:
        log().warning("wake.unmarked", reason=type(error).__name__)
        return False


#: Told for every task, or telling a failure with the text of its exception; `task.failed` says what is needed.
NOISY_LOGGERS = {"celery.worker.strategy": "WARNING", "celery.app.trace": "CRITICAL", "celery.beat": "WARNING"}


@signals.setup_logging.connect
def _log_like_everyone(**_: Any) -> None:
    configure_logs("worker")
    # Celery's own lines go to the same place; its readiness line ("… ready.") among them.
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name, level in NOISY_LOGGERS.items():
        logging.getLogger(name).setLevel(level)


@signals.worker_init.connect
def _load_before_fork(**_: Any) -> None:
    try:
        db.require_bound_login("worker")
        traces.require()
    except StartError as refused:
        # Celery logs what a signal's receiver raises, and goes on.
        raise SystemExit(refused.detail) from None
    catalog()


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def _tell_last_spans(**_: Any) -> None:
    # In each process of the pool, all at once, and in the main one: well within the time that a stop may take.
    traces.end()


@signals.worker_process_init.connect
def _own_connections(**_: Any) -> None:
    metrics.begin("worker")
    # A connection inherited through fork would be shared with the parent; close=False leaves the parent's alone.
    db.leave_to_parent()
    forget_connections()
    tune_gc()
