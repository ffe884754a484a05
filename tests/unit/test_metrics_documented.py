"""docs/metrics.md names every metric, and no other."""

from __future__ import annotations

import re

from api.measure import _of
from shared.cells import SPILLED
from shared.metrics import Metric
from shared.settings import PROJECT_ROOT

#: Made by the exposition, of what it finds.
MADE = {SPILLED[0], "carillon_processes", "carillon_up"}


def told() -> set[str]:
    """Return every metric's name in the exposition."""
    return {*Metric.ALL, *MADE, *(gauge.name for gauge in _of({}, {}))}


def test_the_list_for_readers_has_every_metric_and_no_other() -> None:
    rows = [line.split("|")[1] for line in (PROJECT_ROOT / "docs/metrics.md").read_text().splitlines() if "| `" in line]
    assert {name for row in rows for name in re.findall(r"`(carillon_\w+)`", row)} == told()
