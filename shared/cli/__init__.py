"""The command line, `carillon`. Each command imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from shared.cli import (
    audit,
    catalog,
    demo,
    doctor,
    events,
    explain,
    keys,
    outbox,
    publish,
    recipients,
    revoke,
    run_part,
    status,
    tail,
)
from shared.cli.console import run

app = typer.Typer(
    name="carillon",
    help="Notifications, in order, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
    from shared import migration
    from shared.settings import settings

    migration.migrate_configured(settings())


app.command()(publish.publish)
app.command()(tail.tail)
app.command()(status.status)
app.command()(doctor.doctor)
app.command()(audit.audit)
app.command()(explain.explain)
app.command()(keys.token)
app.command()(revoke.revoke)
app.command()(outbox.relay)
app.command(name="run")(run_part.run_part)
app.command()(run_part.health)
app.add_typer(keys.key_app, name="key")
app.add_typer(keys.secret_app, name="secret")
app.add_typer(recipients.recipients_app, name="recipients")
app.add_typer(events.events_app, name="events")
app.add_typer(outbox.outbox_app, name="outbox")
app.add_typer(catalog.catalog_app, name="catalog")
app.add_typer(events.epoch_app, name="epoch")
app.add_typer(demo.demo_app, name="demo")


def main() -> None:
    """Run the command line; exits 0, or 1 after one sentence."""
    sys.exit(run(app))
