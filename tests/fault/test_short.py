"""The fault suite's short form: the most telling faults, once or twice each, on one cluster. `make fault` runs all."""

from __future__ import annotations

import signal

import pytest

from tests.fault.faults import processes, servers
from tests.fault.trial import MEMORY_MIB, REPAIR_S, Fault, Trial, run

INJECTIONS = (
    processes.main_signalled(signal.SIGKILL),
    servers.redis_killed,
    processes.api_signalled(signal.SIGKILL),
    servers.postgres_killed,
    processes.child_signalled(signal.SIGKILL),
    servers.redis_stopped(8.0),
    processes.rolling_restart,
    processes.child_stopped,
    servers.redis_killed,
    processes.main_signalled(signal.SIGTERM),
)


def _each_in_turn(trial: Trial) -> None:
    INJECTIONS[trial.number - 1](trial)


@pytest.mark.usefixtures("zygote")
def test_whatever_dies_under_load_nothing_acknowledged_is_lost_doubled_or_out_of_order() -> None:
    """Pins I1 to I6 under load for workers, API, Redis and PostgreSQL that die, stop, or come back empty."""
    result = run(Fault(name="short", inject=_each_in_turn, times=len(INJECTIONS)))
    assert result.verdict.words == ()
    assert result.verdict.clean
    assert result.verdict.acknowledged > 10_000
    assert result.longest <= REPAIR_S
    assert result.memory_mib <= MEMORY_MIB
