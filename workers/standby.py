"""While the broker is away nobody is woken: a thread of each process of the pool then does itself what is to be done.

So an outage of the broker delays by seconds, and leaves no backlog to work off after it. What is to be done PostgreSQL
says, as ever: the sweeper finds it, and what it would queue is run instead. Lanes are not kept apart meanwhile.

Another thread looks whether the broker is there, however long that work takes: while it counts as away, nothing is sent
from the whole process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from celery import signals
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from shared.broker import Probe, is_amqp, redis_url
from shared.errors import StartError
from shared.logs import log, place_of
from shared.settings import settings
from workers import broker
from workers.everywhere import in_every_database
from workers.fan_out import run_batch, suspect_predecessors
from workers.patience import patience
from workers.sweep import sweep

#: Between two looks at the broker, and how long it may take to answer one.
LOOK_S = 1.0
#: Looks that must fail in a row: on a busy machine one answer may take longer.
LOOKS = 2
#: How long pending events are fanned out before what else is left is looked for.
WORK_S = 5.0
#: What is written to see whether the broker takes anything: one that is full answers, and refuses.
KEY = "carillon:standby"
KEY_MS = 5_000


@signals.worker_process_init.connect
def _start(**_: Any) -> None:
    never = threading.Event()
    threading.Thread(target=watch, args=(_asked_first(), never), name="broker-watch", daemon=True).start()
    threading.Thread(target=stand_by, args=(never,), name="standby", daemon=True).start()


def watch(takes_messages: Callable[[], bool], stopping: threading.Event) -> None:
    """Say in `broker.away` whether the broker is there, until `stopping` is set."""
    while not stopping.is_set():
        _unfailing(partial(look, takes_messages))
        stopping.wait(LOOK_S)


def stand_by(stopping: threading.Event) -> None:
    """Do what is to be done whenever the broker is away, until `stopping` is set and it is away."""
    broker.stand_in()
    while True:
        broker.away.wait()
        if stopping.is_set():
            return
        _unfailing(work)
        stopping.wait(LOOK_S)


def _unfailing(step: Callable[[], None]) -> None:
    try:
        step()
    except Exception as error:
        # The thread goes on: nobody would start it again.
        log().error("standby.failed", reason=type(error).__name__, where=place_of(error))


def _asked_first() -> Callable[[], bool]:
    """Return the question, made where it is asked for the first time: what that raises, the watch survives."""
    question = cache(_question)

    def takes_messages() -> bool:
        return question()()

    return takes_messages


def _question() -> Callable[[], bool]:
    """Return what tells whether the broker takes anything just now; one that cannot be asked counts as being there."""
    url = settings().broker_url
    if url is None:
        raise StartError("No broker: set CARILLON_BROKER_URL, or start with `make up`.")
    if is_amqp(url.get_secret_value()):
        return Probe(url.get_secret_value(), LOOK_S).takes_messages
    asked = redis_url(url.get_secret_value())
    if asked is None:
        log().warning("broker.not_asked")
        return lambda: True
    once = Retry(NoBackoff(), 0)
    client = Redis.from_url(asked, socket_timeout=LOOK_S, socket_connect_timeout=LOOK_S, retry=once)
    return partial(_takes_messages, client)


def look(takes_messages: Callable[[], bool]) -> None:
    """See whether the broker is there, once."""
    tries = 1 if broker.away.is_set() else LOOKS
    if any(takes_messages() for _ in range(tries)):
        if broker.away.is_set():
            log().info("broker.back")
            broker.away.clear()
        return
    if not broker.away.is_set():
        log().warning("broker.away")
        broker.away.set()


def work() -> None:
    """Fan out what is pending and sweep, once."""
    with patience("standby"):
        suspect_predecessors()
    in_every_database("standby", _work)


def _work() -> None:
    deadline = time.monotonic() + WORK_S
    while run_batch(deadline) and time.monotonic() < deadline:
        pass
    sweep()


def _takes_messages(client: Redis) -> bool:
    try:
        client.set(KEY, 1, px=KEY_MS)
    except (RedisError, OSError):
        return False
    return True
