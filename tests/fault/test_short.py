"""The fault suite's short form: the most telling faults, once or twice each, on two clusters. `make fault` runs all."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.fault import triggers
from tests.fault.faults import clients, database, delivery, processes, servers
from tests.fault.trial import MEMORY_MIB, PATIENCE_S, Fault, Trial, run

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
#: The events that kill their workers come first: their five attempts take half a minute.
SUBTLE = (
    delivery.poison,
    delivery.poison,
    delivery.last_publish_dropped,
    delivery.dies_at(triggers.DIE_BEFORE_PUBLISH),
    delivery.dies_at(triggers.DIE_BEFORE_WAKE),
    delivery.published_by_sql_unheard,
    delivery.delivered_twice,
    database.writers_reversed,
    database.slow_commit,
    database.inboxes_locked,
    database.deadlock,
    database.statements_time_out,
    clients.comes_back_all_the_time,
    clients.stops_reading,
    delivery.last_publish_dropped,
)


def _in_turn(injections: tuple[Callable[[Trial], None], ...]) -> Callable[[Trial], None]:
    return lambda trial: injections[trial.number - 1](trial)


def _finish(trial: Trial) -> list[str]:
    return [*delivery.poison_has_failed(trial), *clients.silent_were_closed(trial)]


@pytest.mark.usefixtures("zygote")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(name="whatever dies", inject=_in_turn(DYING), times=len(DYING)),
        Fault(
            name="whatever is lost, late, doubled or in the way",
            inject=_in_turn(SUBTLE),
            times=len(SUBTLE),
            shape=delivery.FAULTY,
            finish=_finish,
        ),
    ],
    ids=lambda fault: fault.name,
)
def test_under_load_nothing_acknowledged_is_lost_doubled_or_out_of_order(fault: Fault) -> None:
    """Pins I1 to I6 under load, whatever dies, stops, is lost, comes twice or late, or does not read."""
    result = run(fault)
    assert result.verdict.words == ()
    assert result.verdict.clean
    assert result.verdict.acknowledged > 10_000
    # How soon is measured by `make fault`, which has a machine for itself.
    assert result.longest < PATIENCE_S
    assert result.memory_mib <= MEMORY_MIB
