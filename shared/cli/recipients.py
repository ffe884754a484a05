"""`carillon recipients import`: fill the directory from a file, of any length, in as many starts as it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from shared.cli.console import err, number_of, out

if TYPE_CHECKING:
    from shared.cli.import_state import Rejected, State
    from shared.cli.people_file import Row

recipients_app = typer.Typer(no_args_is_help=True, help="The directory of recipients.")

#: Rows of one transaction: a broken line at the end of a long file does not undo its beginning.
ROWS = 1_000
#: Rejected rows that are told one by one; all of them stand in the report.
TOLD = 20


@recipients_app.callback()
def _group() -> None:
    """Keep `import` a command of its own while it is the only one."""


@recipients_app.command("import")
def import_(
    file: Path = typer.Argument(
        ..., help="CSV with a heading (tenant,id,roles,locale, anything else is an attribute), or NDJSON."
    ),
    tenant: str | None = typer.Option(None, "--tenant", help="The tenant of rows that name none."),
    report: Path | None = typer.Option(
        None, "--report", help="Where rejected rows are written: line, field, reason. Beside the file by default."
    ),
    anew: bool = typer.Option(False, "--anew", help="From the beginning, although an earlier run can be gone on with."),
) -> None:
    """Register the recipients of a file, or bring them up to date. Wrong rows are told and left out (exit code 1).

    After Ctrl-C, or whatever else ended it, the same command goes on where it was.
    """
    from shared.cli.import_state import State

    state = State(file, report, tenant, anew=anew)
    if state.resumed:
        err.print(f"Going on after line {state.progress.line:,}.")
    elif state.changed:
        err.print("The file, or the tenant, is not the one of the run before: from the beginning.", style="yellow")
    try:
        _import_all(file, state)
    except KeyboardInterrupt:
        if state.resumable:
            err.print(f"Interrupted after line {state.progress.line:,}: the same command goes on there.")
        raise
    _conclude(state)


def _import_all(file: Path, state: State) -> None:
    from shared.cli.people_file import Place, read_rows
    from shared.cli.progress import transfer

    done = state.progress
    start = Place(done.offset, done.line)
    is_csv = file.suffix.lower() == ".csv"
    with file.open("rb") as stream, transfer("Importing", done.size or None) as advance:
        advance(done.stored + done.rejected, done.offset)
        for rows in _pieces(read_rows(stream, is_csv=is_csv, start=start), ROWS):
            before = done.offset
            _import_piece(rows, state)
            advance(len(rows), done.offset - before)


def _import_piece(rows: list[Row], state: State) -> None:
    """Store one piece of the file, report what of it was rejected, and note how far that is."""
    rejected = _import(rows, state.progress.tenant)
    done = state.progress
    for each in rejected[: max(TOLD - done.rejected, 0)]:
        err.print(f"line {each.line}: {each.field} {each.reason}".replace(":  ", ": "), markup=False, style="yellow")
    state.add(rejected)
    wrong = len({each.line for each in rejected})
    done.stored += len(rows) - wrong
    done.rejected += wrong
    done.offset, done.line = rows[-1].end
    state.keep()


def _import(rows: Sequence[Row], tenant: str | None) -> list[Rejected]:
    """Import one piece of the file; return what is wrong, by line."""
    from shared import homes
    from shared.cli.import_state import Rejected
    from shared.plans import run_plan

    wrong = [Rejected(row.line, row.field, row.fault) for row in rows if row.fault is not None]
    right = [(row.line, row.value) for row in rows if row.value is not None]
    values = [{**({"tenant": tenant} if tenant else {}), **value} for _, value in right]
    told = run_plan(homes.import_recipients(values))
    refused = [Rejected(right[error.index or 0][0], error.field, error.message) for error in told.errors]
    return sorted([*wrong, *refused])


def _conclude(state: State) -> None:
    done = state.progress
    state.end()
    out.print(f"{number_of(done.stored, 'recipient')} imported, {number_of(done.rejected, 'row')} rejected.")
    if done.rejected:
        err.print(f"What is wrong with which row: {state.report}", style="yellow", markup=False)
        raise typer.Exit(1)


def _pieces(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    left = iter(rows)
    while piece := list(islice(left, size)):
        yield piece
