"""The one progress bar: for what is read from a file and sent on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from shared.cli.console import err


@contextmanager
def transfer(what: str, total_bytes: int | None) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error (nothing where that is no terminal) and give the function that moves it.

    It is called with how many rows were dealt with since, and how many of the file's bytes they took.
    """
    columns = (
        TextColumn(what),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=total_bytes, rows=0)
        rows = 0

        def advance(more_rows: int, more_bytes: int) -> None:
            nonlocal rows
            rows += more_rows
            progress.update(task, advance=more_bytes, rows=rows)

        yield advance
        if total_bytes is not None:
            progress.update(task, completed=total_bytes)
