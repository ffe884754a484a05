"""`carillon events` and `carillon epoch`: what an operator does to the queue of record and to the numbering."""

from __future__ import annotations

import typer

from shared.cli.console import CommandFailed, number_of, out

events_app = typer.Typer(no_args_is_help=True, help="The queue of record.")
epoch_app = typer.Typer(no_args_is_help=True, help="The number that changes when inboxes may be numbered anew.")


@events_app.callback()
def _group() -> None:
    """Keep `retry` a command of its own while it is the only one."""


@epoch_app.callback()
def _epoch_group() -> None:
    """Keep `renew` a command of its own while it is the only one."""


@events_app.command("retry")
def retry(
    tenant: str | None = typer.Option(
        None, "--tenant", help="The event's tenant; with --all-failed: only this tenant's."
    ),
    source: str | None = typer.Option(None, "--source", help="The event's source."),
    id: str | None = typer.Argument(None, help="The event's id.", metavar="ID"),
    all_failed: bool = typer.Option(False, "--all-failed", help="Every failed event."),
) -> None:
    """Give failed events another try. What of them was told already is not told again."""
    from shared import databases, db, overview

    one = (tenant, source, id)
    if all_failed == bool(source or id) or (not all_failed and not all(one)):
        raise CommandFailed("Name one event (--tenant, --source and its id), or say --all-failed.")
    count = 0
    for name in databases.names():
        with db.transaction(db.EVERY_TENANT, database=name) as connection:
            count += overview.retry_failed(connection, tenant, source, id)
    if not count and not all_failed:
        raise CommandFailed(f"There is no failed event {id} of {source} in {tenant}.")
    out.print(f"{number_of(count, 'event')} will be tried again.")


@epoch_app.command("renew")
def renew() -> None:
    """Begin a new epoch, after a backup was restored: every client fetches its page again."""
    from shared import databases, db, migration

    numbers = []
    for name in databases.names():
        with db.transaction(database=name) as connection:
            numbers.append(connection.scalar(migration.RENEW_EPOCH))
    if None in numbers:
        raise CommandFailed("The database has no epoch yet: run `carillon migrate`.")
    number = max(numbers)
    for name in databases.names() if len(numbers) > 1 else ():
        # One number for the installation: what a client holds of any of them is of an earlier one.
        with db.transaction(database=name) as connection:
            connection.execute(migration.RAISE_EPOCH, {"epoch": number})
    out.print(f"The epoch is {number} now.")
