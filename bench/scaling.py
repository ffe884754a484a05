"""Cost over size: streams, recipients, history, rows; `python -m bench.scaling [--part rows] [--data FOLDER]`.

Each part measures and writes `bench/results/scaling-<part>.json` and `docs/images/scaling-<part>.svg`; then all parts
that were ever measured are put into `docs/performance.md`. Whether a cost grows as promised is worked out of the
figures: the slope of a line through their logarithms (`bench/series.py`). What takes long to prepare lies in a kept
folder (`--data`), and `--prepare` only makes that.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench import model, report, scaling_history, scaling_recipients, scaling_rows, scaling_streams, stored
from bench.ending import end_when_told
from bench.series import Series, rows_of
from bench.svg import COLOURS, Panel, plot


class Part(NamedTuple):
    """One kind of size: what it is called on the axis, how it is measured and prepared, and what is said of it."""

    axis: str
    measure: Callable[[Path], list[Series]]
    prepare: Callable[[Path], None] | None
    words: str


PARTS = {
    "streams": Part(
        "streams of one process", scaling_streams.measure, None,
        "Open, authenticated streams of one API process with a core of its own; servers and client share the other. "
        "The idle time holds one heartbeat of each stream within 10 s (the default is 30 s) and two rounds of the "
        "reconciler. Announcements come as chunks of 2,000; medians of 7.",
    ),
    "recipients": Part(
        "recipients of an announcement", scaling_recipients.measure, scaling_recipients.prepare,
        "One event for everyone, posted to the whole product as `carillon up` starts it, on both cores, until all its "
        "notifications are committed and published. Medians of 5, 5, 3 and 1.",
    ),
    "history": Part(
        "notifications in an inbox", scaling_history.measure, None,
        "Notifications in one inbox; the default cap is 100. The product's own functions with their transactions and "
        "publishing, without HTTP and Celery, in 200 inboxes of each length. Medians of 180.",
    ),
    "rows": Part(
        "notifications in the database", scaling_rows.measure, stored.make,
        "Notifications in one PostgreSQL, 100 in each inbox, all in the system's memory; PostgreSQL's own cache is its "
        "default of 128 MiB; in the last rows it is a quarter of the machine's memory, as PostgreSQL's manual advises, "
        "and holds everything (where it would not, there are no such rows). Medians of 150 reads of random inboxes and "
        "of 9 transactions, each begun at a checkpoint. A statement is planned anew on a new connection and behind "
        "PgBouncer; later its plan for any values is used.",
    ),
}  # fmt: skip


def panels(series: list[Series], axis: str) -> list[Panel]:
    """Return the panels: a unit each, in the order in which they come, with as many lines as there are colours."""
    found = []
    for unit in dict.fromkeys(each.unit for each in series):
        lines = [each for each in series if each.unit == unit]
        for start in range(0, len(lines), len(COLOURS)):
            found.append(Panel(f"{unit} over {axis}", axis, lines[start : start + len(COLOURS)]))
    return found


def told(name: str, figures: dict[str, Any]) -> str:
    """Return a part's words, table and picture, as Markdown."""
    part, series = PARTS[name], [Series.of(each) for each in figures["series"]]
    picture = f"![{part.axis}](images/scaling-{name}.svg)"
    return "\n\n".join((f"### {part.axis.capitalize()}", part.words, report.table(*rows_of(series)), picture))


def all_told() -> str:
    """Return what stands in the document: of every part that was ever measured, what it told last."""
    kept = {each: report.load(f"scaling-{each}") for each in PARTS}
    return "\n\n".join(told(each, figures) for each, figures in kept.items() if figures)


def write(name: str, series: list[Series]) -> None:
    """Leave a part's figures, picture and table where they belong."""
    figures = {"machine": report.machine(), "series": [each.as_json() for each in series]}
    report.save(f"scaling-{name}", figures)
    (report.IMAGES / f"scaling-{name}.svg").write_text(plot(panels(series, PARTS[name].axis)))
    report.write("scaling", all_told())
    model.write()


def run(name: str, folder: Path) -> None:
    """Measure a part, print its table, write everything."""
    series = PARTS[name].measure(folder / name)
    print(report.table(*rows_of(series)), flush=True)
    write(name, series)


def main() -> None:
    """Prepare or measure the parts asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--data", type=Path, help="a folder that keeps what takes long to prepare")
    parser.add_argument("--prepare", action="store_true", help="only prepare that")
    chosen = parser.parse_args()
    end_when_told()
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as temporary:
        folder = chosen.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in chosen.part or PARTS:
            prepare = PARTS[name].prepare
            if not chosen.prepare:
                run(name, folder)
            elif prepare is not None:
                prepare(folder / name)


if __name__ == "__main__":
    main()
