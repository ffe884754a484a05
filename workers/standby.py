"""While the broker is away nothing is woken: each process of the pool then fans out what is pending by itself.

So an outage of the broker delays by seconds, and leaves no backlog to work off after it. Large audiences wait for its
return.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import signals
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from shared import db, fan_out
from shared.errors import StartError
from shared.logs import log
from shared.settings import settings
from workers import broker
from workers.fan_out import LOOP_S, run_alone, run_batch, suspect_predecessors
from workers.patience import patience

#: Between two looks at the broker, and how long it may take to answer one. It also is the rhythm of the fan-out then.
LOOK_S = 1.0
#: Events that failed before and are tried again in one look: each may take a while, and others wait.
SUSPECTS = 20
#: What is written to see whether the broker takes anything: one that is full answers, and refuses.
KEY = "carillon:standby"
KEY_MS = 5_000


@signals.worker_process_init.connect
def _start(**_: Any) -> None:
    threading.Thread(target=_stand_by, name="standby", daemon=True).start()


def _stand_by() -> None:
    client = _client()
    while True:
        began = time.monotonic()
        look(client)
        threading.Event().wait(max(0.0, began + LOOK_S - time.monotonic()))


def _client() -> Redis:
    url = settings().broker_url
    if url is None:
        raise StartError("No broker: set CARILLON_BROKER_URL, or start with `make up`.")
    once = Retry(NoBackoff(), 0)
    return Redis.from_url(url.get_secret_value(), socket_timeout=LOOK_S, socket_connect_timeout=LOOK_S, retry=once)


def look(client: Redis) -> None:
    """See whether the broker is there; while it is not, fan out what is pending, for `LOOP_S` at most."""
    if _takes_messages(client):
        if broker.away.is_set():
            log().info("broker.back")
            broker.away.clear()
        return
    if not broker.away.is_set():
        log().warning("broker.away")
        broker.away.set()
    with patience("standby"):
        _work(time.monotonic() + LOOP_S)


def _work(deadline: float) -> None:
    suspect_predecessors()
    with db.transaction() as connection:
        given = {"most": settings().max_attempts, "limit": SUSPECTS}
        suspects = list(connection.scalars(fan_out.due_suspects(), given))
    for key in suspects:
        run_alone(key)
    while run_batch(deadline) and time.monotonic() < deadline:
        pass


def _takes_messages(client: Redis) -> bool:
    try:
        client.set(KEY, 1, px=KEY_MS)
    except (RedisError, OSError):
        return False
    return True
