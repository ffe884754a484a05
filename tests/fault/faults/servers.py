"""Redis and PostgreSQL that die, stand still, are cut off, or refuse."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import redis

from tests.fault.proxy import Proxy
from tests.fault.trial import Fault, Trial

#: A server that died is back after this.
AWAY_S = (0.2, 2.0)
#: How often within one injection.
REPEATED = 5


def redis_killed(trial: Trial) -> None:
    """Kill Redis and start it with nothing in it: every queue, flag and presence is gone."""
    server = trial.cluster.redis
    server.kill()
    for file in server.home.glob("appendonly*"):
        file.unlink()
    trial.hold(*AWAY_S)
    server.start()


def redis_stopped(seconds: float) -> Callable[[Trial], None]:
    """Return an injection that stops Redis for so long: it answers nothing, and refuses nothing either."""

    def inject(trial: Trial) -> None:
        process = trial.cluster.redis.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        try:
            trial.hold(seconds)
        finally:
            os.kill(process.pid, signal.SIGCONT)

    return inject


def postgres_killed(trial: Trial) -> None:
    """Kill PostgreSQL, as a power cut would, and start it again."""
    trial.cluster.postgres.kill()
    trial.hold(*AWAY_S)
    trial.cluster.postgres.start()


def redis_full(trial: Trial) -> None:
    """Let Redis refuse every write for want of memory; what is published still gets through."""
    with redis.Redis.from_url(trial.cluster.redis.url()) as client:
        client.config_set("maxmemory", "1mb")
        trial.hold(2.0, 5.0)
        client.config_set("maxmemory", "0")


def redis_flushed(trial: Trial) -> None:
    """Empty Redis again and again for a while; its connections stay, and so do those who wait at its lists."""
    with redis.Redis.from_url(trial.cluster.redis.url()) as client:
        for _ in range(REPEATED):
            client.flushall()
            trial.hold(0.1, 0.5)


def redis_disconnects(trial: Trial) -> None:
    """Have Redis end every connection again and again for a while: what was asked on them is never answered."""
    with redis.Redis.from_url(trial.cluster.redis.url()) as client:
        for _ in range(REPEATED):
            for kind in ("normal", "pubsub"):
                trial.notes["connections ended"] += client.client_kill_filter(_type=kind, skipme=True)
            trial.hold(0.1, 0.5)


def cut_off(chosen: Callable[[Trial], Proxy], seconds: float) -> Callable[[Trial], None]:
    """Return an injection that cuts a server off: connections are reset and refused, or their bytes vanish."""

    def inject(trial: Trial) -> None:
        proxy, loop = chosen(trial), trial.cluster.loop
        silent = trial.random.random() < 0.5
        trial.notes["silently" if silent else "refused"] += 1
        loop.run(proxy.swallow() if silent else proxy.cut())
        trial.hold(seconds)
        loop.run(proxy.heal())

    return inject


FAULTS = [
    Fault(name="Redis killed, back empty", inject=redis_killed),
    Fault(name="Redis emptied, connections kept", inject=redis_flushed),
    Fault(name="Redis ends every connection", inject=redis_disconnects),
    Fault(name="Redis stopped for 8 s", inject=redis_stopped(8.0)),
    Fault(name="PostgreSQL killed, restarted", inject=postgres_killed),
    Fault(name="Redis stopped for 60 s", inject=redis_stopped(60.0)),
    Fault(name="Redis out of memory", inject=redis_full),
    Fault(name="Redis cut off for 20 s", inject=cut_off(lambda trial: trial.cluster.redis_proxy, 20.0)),
    Fault(name="PostgreSQL cut off for 20 s", inject=cut_off(lambda trial: trial.cluster.postgres_proxy, 20.0)),
]
