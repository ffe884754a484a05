"""`carillon recipients import`: fill the directory from a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import typer

from shared.cli.console import CommandFailed, err, out

recipients_app = typer.Typer(no_args_is_help=True, help="The directory of recipients.")

#: Rows of one transaction: a broken line at the end of a long file does not undo its beginning.
ROWS = 1_000
#: Rejected rows that are told one by one; the rest is counted.
TOLD = 20
#: CSV has no lists: roles stand in one field, apart by these.
ROLE_SEPARATOR = ";"
CSV_FIELDS = frozenset({"tenant", "id", "roles", "locale"})

#: A row of the file: its line, what it says (or what is wrong with it), and how many of the file's bytes it took.
Row = tuple[int, dict[str, Any] | str, int]


@recipients_app.callback()
def _group() -> None:
    """Keep `import` a command of its own while it is the only one."""


@recipients_app.command("import")
def import_(
    file: Path = typer.Argument(
        ..., help="CSV with a heading (tenant,id,roles,locale, anything else is an attribute), or NDJSON."
    ),
    tenant: str | None = typer.Option(None, "--tenant", help="The tenant of rows that name none."),
) -> None:
    """Register the recipients of a file, or bring them up to date. Wrong rows are told and left out (exit code 1)."""
    from shared.cli.progress import transfer

    imported, rejected = 0, 0
    with file.open("rb") as stream, transfer("Importing", file.stat().st_size) as advance:
        for rows in _pieces(_read(file, stream), ROWS):
            faults = _import(rows, tenant)
            for line, what in faults[: max(TOLD - rejected, 0)]:
                err.print(f"line {line}: {what}", markup=False, style="yellow")
            wrong = len({line for line, _ in faults})
            rejected += wrong
            imported += len(rows) - wrong
            advance(len(rows), sum(size for _, _, size in rows))
    out.print(f"{imported:,} recipients imported, {rejected:,} rows rejected.")
    if rejected > TOLD:
        err.print(f"(and {rejected - TOLD:,} more rejected rows)", style="yellow")
    if rejected:
        raise typer.Exit(1)


def _import(rows: list[Row], tenant: str | None) -> list[tuple[int, str]]:
    """Import one piece of the file; return the rejected lines, each with what is wrong."""
    from shared import homes
    from shared.plans import run_plan

    faults = [(line, what) for line, what, _ in rows if isinstance(what, str)]
    lines = [line for line, what, _ in rows if isinstance(what, dict)]
    values = [{**({"tenant": tenant} if tenant else {}), **what} for _, what, _ in rows if isinstance(what, dict)]
    report = run_plan(homes.import_recipients(values))
    return sorted(faults + [(lines[error.index or 0], f"{error.field} {error.message}") for error in report.errors])


def _pieces(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    left = iter(rows)
    while piece := list(islice(left, size)):
        yield piece


def _read(path: Path, stream: BinaryIO) -> Iterator[Row]:
    return _csv(stream) if path.suffix.lower() == ".csv" else _ndjson(stream)


def _ndjson(stream: BinaryIO) -> Iterator[Row]:
    import orjson

    for line, content in enumerate(stream, start=1):
        if not content.strip():
            continue
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError as problem:
            yield line, f"is not valid JSON ({problem})", len(content)
            continue
        yield line, value if isinstance(value, dict) else "is no JSON object", len(content)


def _csv(stream: BinaryIO) -> Iterator[Row]:
    words = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        reader = csv.DictReader(words)
        if "id" not in (reader.fieldnames or ()):
            raise CommandFailed("The CSV file needs a heading with at least the column id.")
        told = 0
        for row in reader:
            at = stream.tell()
            yield reader.line_num, _recipient(row), at - told
            told = at
    finally:
        words.detach()  # The file is its opener's to close.


def _recipient(row: dict[str | Any, str | Any]) -> dict[str, Any] | str:
    """Return a CSV row as a recipient: known columns by name, the others as attributes; empty fields are left out."""
    if None in row:
        return "has more fields than the heading"
    filled = {name: value.strip() for name, value in row.items() if value and value.strip()}
    made: dict[str, Any] = {name: filled[name] for name in ("tenant", "id", "locale") if name in filled}
    if "roles" in filled:
        made["roles"] = [role.strip() for role in filled["roles"].split(ROLE_SEPARATOR) if role.strip()]
    attributes = {name: value for name, value in filled.items() if name not in CSV_FIELDS}
    return {**made, "attributes": attributes} if attributes else made
