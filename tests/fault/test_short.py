"""The fault suite's short form: the most telling faults, once or twice each, on two clusters. `make fault` runs all."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.fault.faults import processes, servers
from tests.fault.trial import MEMORY_MIB, REPAIR_S, Fault, Trial, run

DYING = (
    processes.main_signalled(signal.SIGKILL),
    servers.redis_killed,
    processes.api_signalled(signal.SIGKILL),
    servers.postgres_killed,
    processes.child_signalled(signal.SIGKILL),
    servers.redis_stopped(8.0),
    processes.rolling_restart,
    processes.child_stopped,
    servers.redis_killed,
    servers.redis_full,
    processes.main_signalled(signal.SIGTERM),
)
# Known fault: the faults between two lines (`delivery.FAULTY`) do not run since tenants have databases of their own:
# their cluster does not settle. docs/faults.md tells what they came to before; until that is mended they are left out.


def _in_turn(injections: tuple[Callable[[Trial], None], ...]) -> Callable[[Trial], None]:
    return lambda trial: injections[trial.number - 1](trial)


@pytest.mark.usefixtures("zygote")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(name="whatever dies", inject=_in_turn(DYING), times=len(DYING)),
    ],
    ids=lambda fault: fault.name,
)
def test_under_load_nothing_acknowledged_is_lost_doubled_or_out_of_order(fault: Fault) -> None:
    """Pins I1 to I6 under load, whatever dies, stops, is lost, comes twice or late, or does not read."""
    result = run(fault)
    assert result.verdict.words == ()
    assert result.verdict.clean
    assert result.verdict.acknowledged > 10_000
    assert result.longest <= REPAIR_S
    assert result.memory_mib <= MEMORY_MIB
