"""What one does for several: postings that share a transaction, workers that linger, frames that are joined."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event

import psutil
import redis

from shared.databases import SHARED
from shared.wake import lingers_key
from tests.eventually import eventually
from tests.fault import triggers
from tests.fault.faults.clients import FLOOD, SILENT, silent_stream
from tests.fault.faults.database import sessions_ended
from tests.fault.faults.delivery import FAULTY, dies_at, on
from tests.fault.faults.processes import APIS
from tests.fault.trial import Fault, Trial

#: Postings of one event each that are sent at once: two begin transactions, and the next take all that wait.
AT_ONCE = 40
#: How long they come before whatever is done to them.
BEFORE_S = (0.2, 1.0)
#: Tries to find a worker that lingers, and how long each waits for one: it stays for 0.1 s.
TRIES = 20
LINGERS_S = 1.0
QUIET_S = 30.0
#: uvicorn gives connections 5 s when it is told to stop; a machine that is busy takes longer to notice.
ENDED_S = 15.0


@contextmanager
def single_postings(trial: Trial) -> Iterator[None]:
    """Post events one by one, many at once, again and again within the block."""
    load, ended = trial.load, Event()

    def post() -> None:
        while not ended.is_set():
            load.post_apart([trial.random.randrange(load.people) for _ in range(AT_ONCE)])
            trial.notes["single postings"] += AT_ONCE

    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(post)
        try:
            trial.hold(*BEFORE_S)
            yield
        finally:
            ended.set()
            posting.result()


def amid_single_postings(inject: Callable[[Trial], None]) -> Callable[[Trial], None]:
    """Return an injection that does the same while postings share transactions."""

    def together(trial: Trial) -> None:
        with single_postings(trial):
            inject(trial)

    return together


def api_killed(trial: Trial) -> None:
    """Kill an API process."""
    trial.kill([trial.random.choice(APIS)])


def lingerer_killed(trial: Trial) -> None:
    """Kill whoever lingers, and post what they alone are asked to look for."""
    with trial.load.silent():
        for process in _lingering(trial):
            process.kill()
            triggers.forget_lingering(trial.cluster.triggers, process.pid)
        _post_unheard(trial)
        trial.await_repair()


def lingerer_stopped(trial: Trial) -> None:
    """Stop whoever lingers, and post what they alone are asked to look for; they go on once it was told."""
    with trial.load.silent():
        stopped = _lingering(trial)
        try:
            _post_unheard(trial)
            trial.await_repair()
        finally:
            for process in stopped:
                process.resume()


def _lingering(trial: Trial) -> list[psutil.Process]:
    """Return stopped processes: those that linger at this moment. Nothing is owed."""
    with on(trial, triggers.TELL_LINGERING):
        for _ in range(TRIES):
            eventually(lambda: not any(trial.load.owed()), within=QUIET_S)
            trial.load.post([trial.random.randrange(trial.load.people)])
            _somebody_lingers(trial)
            stopped = [psutil.Process(pid) for pid in triggers.who_linger(trial.cluster.triggers)]
            for process in stopped:
                process.suspend()
            linger = triggers.who_linger(trial.cluster.triggers)
            if any(process.pid in linger for process in stopped):
                return stopped
            for process in stopped:
                process.resume()
    raise AssertionError("nobody lingers")


def _somebody_lingers(trial: Trial, within: float = LINGERS_S) -> bool:
    ends = time.monotonic() + within
    with redis.Redis.from_url(trial.cluster.redis.url()) as client:
        while not (found := bool(client.exists(lingers_key(SHARED)))) and time.monotonic() < ends:
            trial.hold(0.001)
    return found


def _post_unheard(trial: Trial) -> None:
    trial.load.post([trial.random.randrange(trial.load.people) for _ in range(AT_ONCE)])
    trial.notes["somebody seemed to linger"] += _somebody_lingers(trial, 0.0)


def drained_while_paused(trial: Trial) -> None:
    """Tell an API process to stop while streams of it take nothing of a flood, and wait for its next start."""
    place = trial.random.randrange(len(APIS))
    recipient = trial.random.randrange(trial.load.people)
    token, port = trial.load.tokens[recipient], trial.cluster.apis[place].port
    sockets = [silent_stream(port, token) for _ in range(SILENT)]
    try:
        # From what buffers on the way hold to what closes the streams as slow.
        for _ in range(trial.random.randint(1, 4)):
            trial.load.post([recipient] * (FLOOD // 4), badge_title="x" * 490)
        supervisor = trial.cluster.supervisor
        before = supervisor.deaths[APIS[place]]
        supervisor.parts[APIS[place]].signal(signal.SIGTERM)
        eventually(lambda: supervisor.deaths[APIS[place]] > before, within=ENDED_S)
        eventually(lambda: supervisor.settled(APIS), within=QUIET_S)
    finally:
        for one in sockets:
            with suppress(OSError):
                one.close()


FAULTS = [
    Fault(name="API process killed amid postings that share transactions", inject=amid_single_postings(api_killed)),
    Fault(name="PostgreSQL ends sessions (57P01) for 1 to 3 s, amid postings that share transactions",
          inject=amid_single_postings(sessions_ended)),
    Fault(name="API process dead between asking for a look and nudging", inject=dies_at(triggers.DIE_BEFORE_NUDGE),
          shape=FAULTY),
    Fault(name="worker killed while it lingers, nothing after it", inject=lingerer_killed, shape=FAULTY),
    Fault(name="worker stopped while it lingers, nothing after it", inject=lingerer_stopped, shape=FAULTY),
    Fault(name="API process told to stop while streams take nothing", inject=drained_while_paused),
]  # fmt: skip
