"""`carillon outbox` and `carillon relay`: outboxes of producers with databases of their own."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from rich.markup import escape

from shared.cli.console import CommandFailed, number_of, out

outbox_app = typer.Typer(no_args_is_help=True, help="Outboxes of producers with databases of their own.")
_NAME = typer.Argument(help="The outbox's name in CARILLON_OUTBOXES.", metavar="NAME")


def relay() -> None:
    """Empty the outboxes of CARILLON_OUTBOXES until Ctrl-C; `carillon up` runs this by itself."""
    from shared.settings import PROJECT_ROOT

    os.chdir(PROJECT_ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "workers.relay"])


@outbox_app.command("sql")
def sql(
    schema: str = typer.Option("public", "--schema", help="Where the table and the function are made."),
    producer: list[str] = typer.Option([], "--producer", help="A role that publishes; repeatable."),
    relay: str | None = typer.Option(None, "--relay", help="The role that the relay logs in as."),
) -> None:
    """Print the statements that make an outbox in a producer's database; safe to run again."""
    from shared.outbox import ddl

    sys.stdout.write(ddl(schema, producer, relay))


@outbox_app.command("status")
def status(json: bool = typer.Option(False, "--json", help="As one JSON object.")) -> None:
    """Show how many events wait in each outbox, for how long, and how many are refused."""
    told = {name: _numbers(name) for name in _names()}
    if json:
        import orjson

        out.print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode(), markup=False)
        return
    from rich.table import Table

    table = Table("outbox", "waiting", "oldest", "refused", "", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name, row in told.items():
        counts = (
            (f"{row['waiting']:,}", f"{row['oldestSeconds']:.1f} s", f"{row['refused']:,}")
            if "waiting" in row
            else ("",) * 3
        )
        table.add_row(name, *counts, escape(row.get("away", "")))
    out.print(table)


@outbox_app.command("refused")
def refused(name: str = _NAME) -> None:
    """Show the first refused events of an outbox, with why."""
    from rich.table import Table
    from rich.text import Text

    from shared import outbox

    with outbox.once(name) as (connection, schema):
        rows = connection.execute(outbox.refused(schema)).all()
    table = Table("position", "tenant", "type", "id", "why", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for row in rows:
        table.add_row(*(Text(str(value or "")) for value in (row.position, row.tenant, row.type, row.id, row.reason)))
    out.print(table)


@outbox_app.command("retry")
def retry(
    name: str = _NAME,
    positions: list[int] = typer.Argument(None, help="Which ones, by position.", metavar="[POSITION]..."),
    every: bool = typer.Option(False, "--all", help="Every refused event of this outbox."),
) -> None:
    """Put refused events back: the relay takes them again."""
    from shared import outbox

    if every == bool(positions):
        raise CommandFailed("Name positions (`carillon outbox refused` shows them), or say --all.")
    with outbox.once(name) as (connection, schema):
        count = connection.execute(outbox.put_back(schema), {"positions": positions or None}).rowcount
    if not count and positions:
        raise CommandFailed("No refused event has such a position.")
    out.print(f"{number_of(count, 'event')} will be taken again.")


def _names() -> list[str]:
    from shared.settings import settings

    if not settings().outboxes:
        raise CommandFailed("There is no outbox: set CARILLON_OUTBOXES.")
    return list(settings().outboxes)


def _numbers(name: str) -> dict[str, Any]:
    from shared import outbox
    from shared.errors import CarillonError

    try:
        with outbox.once(name) as (connection, schema):
            row = connection.execute(outbox.numbers(schema)).one()
    except CarillonError as problem:
        return {"away": problem.detail}
    return {"waiting": row.waiting, "oldestSeconds": row.oldest_s, "refused": row.refused}
