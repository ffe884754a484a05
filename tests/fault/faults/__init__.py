"""Every fault of the suite, in the order of its table."""

from __future__ import annotations

from tests.fault.faults import processes, servers

FAULTS = [*processes.FAULTS, *servers.FAULTS]
