"""The aims of the measurement end to end, and the table that says how far each is reached."""

from __future__ import annotations

from collections.abc import Callable
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

    def told(self, figures: Figures) -> tuple[str, str, str, str]:
        """Return the line's cells. An aim for a million people is none for fewer."""
        value, people = self.of(figures), figures.get("million", {}).get("recipients", MILLION)
        what = self.what.format(people=people)
        if (self.most is None and self.least is None) or ("{people" in self.what and people < MILLION):
            return what, f"{value:,g} {self.unit}", "", ""
        bound = f"≤ {self.most:,g}" if self.most is not None else f"≥ {self.least:,g}"
        enough = value <= self.most if self.most is not None else value >= (self.least or 0)
        return what, f"{value:,g} {self.unit}".strip(), f"{bound} {self.unit}".strip(), "yes" if enough else "no"


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


def lines(figures: Figures) -> list[tuple[str, str, str, str]]:
    """Return the table's lines for the parts that were measured."""
    return [aim.told(figures) for aim in AIMS if all(part in figures for part in aim.parts)]


def show(figures: Figures) -> None:
    """Print the table."""
    table = Table(*HEADER, title="Carillon end to end")
    for line in lines(figures):
        table.add_row(*line)
    Console(width=120).print(table)


def _cpu(figures: Figures) -> str:
    """Return a table of the CPU that each part of the product used for each event."""
    found = {part: figures[part]["cpu ms an event"] for part in ("latency", "batches") if part in figures}
    names = {"latency": "single postings, 200/s", "batches": "batches, as fast as they are answered"}
    parts = list(dict.fromkeys(part for spent in found.values() for part in spent))
    rows = [(part, *(f"{spent.get(part, 0):.3f}" for spent in found.values())) for part in parts]
    total = ("all", *(f"{sum(spent.values()):.3f}" for spent in found.values()))
    return report.table(("ms of CPU for each event", *(names[part] for part in found)), [*rows, total])


def write(figures: Figures, *, quick: bool) -> None:
    """Write the figures, and the tables into docs/performance.md."""
    machine = report.machine()
    report.save(NAME, {"machine": machine, "quick": quick, **figures})
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}"
    command = f"`python -m bench.end_to_end{' --quick' if quick else ''} --write` on {where}."
    report.write(NAME, "\n\n".join((command, report.table(HEADER, lines(figures)), _cpu(figures))))
