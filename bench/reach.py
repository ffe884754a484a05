"""The aims of the measurement end to end, and the table that says how far each is reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import report

Figures = dict[str, Any]
NAME = "end-to-end"
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Aim:
    """A line of the table: what was measured, of which parts, and from which value on it is enough."""

    what: str
    unit: str
    parts: tuple[str, ...]
    of: Callable[[Figures], float]
    most: float | None = None
    least: float | None = None

    def told(self, runs: Sequence[Figures]) -> tuple[str, str, str, str]:
        """Return the line's cells: the median of the runs decides. An aim for a million people is none for fewer."""
        people = runs[0].get("million", {}).get("recipients", MILLION)
        what, values = self.what.format(people=people), [self.of(figures) for figures in runs]
        measured = f"{spread(values)} {self.unit}".strip()
        if (self.most is None and self.least is None) or ("{people" in self.what and people < MILLION):
            return what, measured, "", ""
        value = statistics.median(values)
        bound = f"≤ {self.most:,g}" if self.most is not None else f"≥ {self.least:,g}"
        enough = value <= self.most if self.most is not None else value >= (self.least or 0)
        return what, measured, f"{bound} {self.unit}".strip(), "yes" if enough else "no"


def spread(values: Sequence[float]) -> str:
    """Return the median of several runs with the least and the greatest; of one run its value."""
    told = [f"{value:,g}" for value in (round(statistics.median(values), 3), min(values), max(values))]
    return told[0] if len(values) == 1 else f"{told[0]} ({told[1]} to {told[2]})"


def _per_task(figures: Figures) -> float:
    return round(float(figures["batches"]["events a second"] / figures["tasks"]["events a second"]), 2)


AIMS = (
    Aim("200 events/s: answer (202) to the frame in the client, p50", "ms", ("latency",),
        lambda f: f["latency"]["answer to frame"]["p50"], most=8),
    Aim("the same, p99", "ms", ("latency",), lambda f: f["latency"]["answer to frame"]["p99"], most=30),
    Aim("the same from the posting's start, p50", "ms", ("latency",),
        lambda f: f["latency"]["posting to frame"]["p50"]),
    Aim("the same from the posting's start, p99", "ms", ("latency",),
        lambda f: f["latency"]["posting to frame"]["p99"]),
    Aim("batch endpoint: single-recipient events stored and pushed", "events/s", ("batches",),
        lambda f: f["batches"]["events a second"], least=5_000),
    Aim("one Celery task for each event, a small application", "events/s", ("tasks",),
        lambda f: f["tasks"]["events a second"]),
    Aim("batch endpoint ÷ one task for each event", "", ("batches", "tasks"), _per_task, least=4),
    Aim("single postings answered", "a second", ("posts",), lambda f: f["posts"]["ours a second"]),
    Aim("a bare FastAPI route with one INSERT", "a second", ("posts",), lambda f: f["posts"]["bare route a second"]),
    Aim("single postings ÷ the bare route", "", ("posts",), lambda f: f["posts"]["ratio"], least=0.5),
    Aim("announcement to 100,000: all stored and pushed", "s", ("announcement",),
        lambda f: f["announcement"]["seconds"], most=2.5),
    Aim("announcement to {people:,}: all stored and pushed", "s", ("million",), lambda f: f["million"]["seconds"],
        most=20),
    Aim("its worker's memory, more for each 100,000 notifications", "MiB", ("million",),
        lambda f: f["million"]["worker MiB more for each 100,000"], most=1),
    Aim("50 one-to-one events/s beside it, posting to frame, p99", "ms", ("million",),
        lambda f: f["million"]["one-to-one beside it"]["p99"], most=250),
)  # fmt: skip
HEADER = ("measured", "value", "aim", "reached")


def lines(runs: Sequence[Figures]) -> list[tuple[str, str, str, str]]:
    """Return the table's lines for the parts that were measured, over all runs, of which there is at least one."""
    return [aim.told(runs) for aim in AIMS if all(part in runs[0] for part in aim.parts)]


def show(runs: Sequence[Figures]) -> None:
    """Print the table."""
    table = Table(*HEADER, title="Carillon end to end")
    for line in lines(runs):
        table.add_row(*line)
    Console(width=120).print(table)


def _spent(runs: Sequence[Figures], part: str) -> dict[str, float]:
    """Return the median CPU of each process in one part; one that used nothing worth telling in a run had none."""
    told = [figures[part]["cpu ms an event"] for figures in runs]
    names = dict.fromkeys(name for spent in told for name in spent)
    return {name: statistics.median(spent.get(name, 0.0) for spent in told) for name in names}


def _cpu(runs: Sequence[Figures]) -> str:
    """Return a table of the CPU that each part of the product used for each event."""
    found = {part: _spent(runs, part) for part in ("latency", "batches") if part in runs[0]}
    names = {"latency": "single postings, 200/s", "batches": "batches, as fast as they are answered"}
    parts = list(dict.fromkeys(part for spent in found.values() for part in spent))
    rows = [(part, *(f"{spent.get(part, 0):.3f}" for spent in found.values())) for part in parts]
    total = ("all", *(f"{sum(spent.values()):.3f}" for spent in found.values()))
    return report.table(("ms of CPU for each event", *(names[part] for part in found)), [*rows, total])


def write(runs: Sequence[Figures], command: str, *, quick: bool) -> None:
    """Write the figures of all runs of `command`, and the tables of their medians into docs/performance.md."""
    machine = report.machine()
    report.save(NAME, {"command": command, "machine": machine, "quick": quick, "runs": list(runs)})
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}"
    what = f"`{command}` on {where}"
    several = f"{what}: medians of {len(runs)} runs (least to greatest), each on a product of its own."
    told = several if len(runs) > 1 else f"{what}."
    report.write(NAME, "\n\n".join((told, report.table(HEADER, lines(runs)), _cpu(runs))))
