"""CPU time of processes to the nanosecond; what others tell comes in hundredths of a second. Linux alone."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU seconds so far of these processes' present threads; what is gone meanwhile counts nothing."""
    total = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                total += int(file.read_text().split()[0])
    return total / 1e9
