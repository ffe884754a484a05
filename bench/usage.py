"""What a running product uses: CPU time by part, and a lane's memory."""

from __future__ import annotations

import json
import os
from collections import defaultdict

import psutil

from bench.product import Product
from shared.settings import runtime_file

MIB = 1024 * 1024
#: Parts by what their command line says, in this order.
_PARTS = (
    ("bin/postgres", "postgres"), ("redis-server", "redis"), ("uvicorn", "api"), ("--hostname=urgent", "urgent"),
    ("--hostname=fan_out", "fan_out"), ("--hostname=maintenance", "maintenance"), (" beat", "beat"),
    (" flower", "flower"), ("relay", "relay"),
)  # fmt: skip
#: This process, which posts and listens.
DRIVER = "load generator"


def _family(product: Product) -> list[psutil.Process]:
    root = psutil.Process(json.loads(runtime_file(product.folder).read_text())["pid"])
    return [root, *root.children(recursive=True)]


def _part(process: psutil.Process) -> str:
    try:
        # PostgreSQL's children rewrite theirs: "postgres: carillon carillon 127.0.0.1(…) idle".
        command = " ".join(process.cmdline())
    except psutil.Error:
        return "supervisor"
    return "postgres" if command.startswith("postgres") else next(
        (part for sign, part in _PARTS if sign in command), "supervisor")  # fmt: skip


class Parts:
    """The product's processes by part, as they are when this is made."""

    def __init__(self, product: Product) -> None:
        self._processes = [(_part(process), process) for process in _family(product)]

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds that each part has used, and this process."""
        spent: dict[str, float] = defaultdict(float)
        for part, process in self._processes:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            spent[part] += times.user + times.system
        mine = os.times()
        spent[DRIVER] = mine.user + mine.system
        return spent

    def greatest_rss(self, part: str) -> float:
        """Return the greatest resident memory of a part's processes, in MiB."""
        sizes = [0.0]
        for name, process in self._processes:
            try:
                if name == part:
                    sizes.append(process.memory_info().rss)
            except psutil.Error:
                continue
        return max(sizes) / MIB


def by_event(before: dict[str, float], after: dict[str, float], events: int) -> dict[str, float]:
    """Return the milliseconds of CPU that each part used for each event, most first."""
    used = {part: (seconds - before.get(part, 0.0)) / events * 1e3 for part, seconds in after.items()}
    return {part: round(ms, 3) for part, ms in sorted(used.items(), key=lambda each: -each[1]) if ms >= 0.001}


def slope(points: list[tuple[float, float]]) -> float:
    """Return by how much the second number grows with the first, by least squares; 0 for fewer than two points."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    middle_x, middle_y = sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
