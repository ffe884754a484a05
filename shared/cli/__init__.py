"""The command line, `carillon`. Each command imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from shared.cli.console import run

app = typer.Typer(name="carillon", help="Notifications, in order, exactly once.", no_args_is_help=True)


@app.command()
def up(
    with_parent: Annotated[
        bool, typer.Option("--with-parent", hidden=True, help="Stop when the process that started this one dies.")
    ] = False,
) -> None:
    """Start everything on this machine under one log, until Ctrl-C."""
    from shared.cli.up import up as start

    start(with_parent=with_parent)


@app.command()
def migrate() -> None:
    """Bring the database to the newest revision; safe to repeat."""
    from shared import db
    from shared.settings import settings

    owner = settings().database_owner_url
    db.migrate(owner.get_secret_value() if owner else db.database_url())


def main() -> None:
    """Run the command line; exits 0, or 1 after one sentence."""
    sys.exit(run(app))
