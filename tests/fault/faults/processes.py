"""Processes of ours that die, are told to stop, or stand still."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil

from tests.fault.parts import Lane
from tests.fault.trial import Fault, Trial

APIS = ("api-1", "api-2")
#: How long a process stands still: shorter and longer than PostgreSQL's patience with a transaction (5 s).
STOPPED_S = (2.0, 8.0)
#: How long one does that has no transactions, or whose children have them: shorter and longer than two heartbeats.
STILL_S = (1.0, 6.0)
#: Tries to stop a worker just while it has a transaction open, and how long one must be open to count.
TRIES = 200
_IN_TRANSACTION = """
    SELECT count(*) AS many FROM pg_stat_activity WHERE application_name = 'carillon-worker'
    AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '30 ms'"""


def _worker(trial: Trial) -> tuple[str, Lane]:
    name = trial.random.choice(sorted(trial.cluster.workers))
    return name, trial.cluster.workers[name]


def _child(trial: Trial, lane: Lane) -> psutil.Process:
    return trial.random.choice(lane.children())


def child_signalled(number: signal.Signals) -> Callable[[Trial], None]:
    """Return an injection that signals a worker's child, which its main process replaces."""

    def inject(trial: Trial) -> None:
        _child(trial, _worker(trial)[1]).send_signal(number)

    return inject


def child_stopped(trial: Trial) -> None:
    """Stop a child in the middle of a transaction, if one is found there, and let it go on later."""
    child = _caught(trial)
    trial.hold(*STOPPED_S)
    child.resume()


def _caught(trial: Trial) -> psutil.Process:
    """Return a stopped child of an urgent worker, in a transaction unless none was found in one."""
    lanes = [lane for name, lane in trial.cluster.workers.items() if name.startswith("urgent")]
    child = trial.random.choice(lanes).children()[0]
    with trial.connect() as session:
        for _ in range(TRIES):
            child.suspend()
            trial.hold(0.04)
            row = session.execute(_IN_TRANSACTION).fetchone()
            if row is not None and row["many"]:
                trial.notes["stopped within a transaction"] += 1
                return child
            child.resume()
            trial.hold(0.001, 0.02)
    child.suspend()
    return child


def main_signalled(number: signal.Signals) -> Callable[[Trial], None]:
    """Return an injection that signals a worker's main process."""

    def inject(trial: Trial) -> None:
        trial.kill([_worker(trial)[0]], number)

    return inject


def main_stopped(trial: Trial) -> None:
    """Stop a worker's main process, and let it go on later."""
    _stopped(trial, _worker(trial)[1].pid)


def api_signalled(number: signal.Signals) -> Callable[[Trial], None]:
    """Return an injection that signals an API process."""

    def inject(trial: Trial) -> None:
        trial.kill([trial.random.choice(APIS)], number)

    return inject


def api_stopped(trial: Trial) -> None:
    """Stop an API process, and let it go on later."""
    _stopped(trial, trial.random.choice(trial.cluster.apis).pid)


def beat_signalled(number: signal.Signals) -> Callable[[Trial], None]:
    """Return an injection that signals beat."""

    def inject(trial: Trial) -> None:
        trial.kill(["beat"], number)

    return inject


def beat_stopped(trial: Trial) -> None:
    """Stop beat, and let it go on later."""
    _stopped(trial, trial.cluster.beat.pid)


def _stopped(trial: Trial, pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        trial.hold(*STILL_S)
    finally:
        os.kill(pid, signal.SIGCONT)


def two_beats(trial: Trial) -> None:
    """Run a second beat for a while, and kill a worker meanwhile, so that there is something to sweep."""
    second = trial.cluster.new_beat("second-beat")
    second.start()
    try:
        trial.hold(2.0, 4.0)
        trial.kill([_worker(trial)[0]])
    finally:
        second.kill()


def rolling_restart(trial: Trial) -> None:
    """Restart one API process after the other, as a deployment does: the next when the one before is ready."""
    for name in APIS:
        trial.kill([name], signal.SIGTERM)
        trial.require_ready()


FAULTS = [
    Fault(name="worker killed", inject=main_signalled(signal.SIGKILL)),
    Fault(name="worker told to stop", inject=main_signalled(signal.SIGTERM)),
    Fault(name="worker stopped for 1 to 6 s", inject=main_stopped),
    Fault(name="worker's child killed", inject=child_signalled(signal.SIGKILL)),
    Fault(name="worker's child told to stop", inject=child_signalled(signal.SIGTERM)),
    Fault(name="worker's child stopped in a transaction for 2 to 8 s", inject=child_stopped),
    Fault(name="API process killed", inject=api_signalled(signal.SIGKILL)),
    Fault(name="API process told to stop", inject=api_signalled(signal.SIGTERM)),
    Fault(name="API process stopped for 1 to 6 s", inject=api_stopped),
    Fault(name="every API process restarted in turn", inject=rolling_restart),
    Fault(name="beat killed", inject=beat_signalled(signal.SIGKILL)),
    Fault(name="beat told to stop", inject=beat_signalled(signal.SIGTERM)),
    Fault(name="beat stopped for 1 to 6 s", inject=beat_stopped),
    Fault(name="two beats, a worker killed", inject=two_beats),
]
