"""Every fault of the suite, in the order of its table."""

from __future__ import annotations

from tests.fault.faults import clients, database, delivery, processes, servers, time_travel, together

FAULTS = [
    *processes.FAULTS,
    *servers.FAULTS,
    *database.FAULTS,
    *delivery.FAULTS,
    *clients.FAULTS,
    *together.FAULTS,
    *time_travel.FAULTS,
]
