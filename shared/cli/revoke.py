"""`carillon revoke`: end what somebody is signed in with."""

from __future__ import annotations

import typer

from shared.cli.console import CommandFailed, err, out

#: Redis has so long to take the order; without it, streams end with their next re-check.
TELL_S = 2.0


def revoke(
    tenant: str = typer.Option(..., "--tenant", help="The recipient's tenant."),
    recipient: str = typer.Option("", "--recipient", help="Whose access ends."),
    everyone: bool = typer.Option(False, "--everyone", help="Everyone's of the tenant."),
) -> None:
    """End a recipient's access: tokens issued up to now, sessions, and the open streams."""
    from shared import audit, db, revocations, statements
    from shared.cloudevent import is_name
    from shared.databases import SHARED
    from shared.directory import NAME

    if bool(recipient) == everyone:
        raise CommandFailed("Say whose access ends: either --recipient, or --everyone.")
    for option, name in (("--tenant", tenant), ("--recipient", recipient)):
        if name and not is_name(name):
            raise CommandFailed(f"{option} {NAME}.")
    with db.transaction(tenant, database=SHARED) as connection:
        made = statements.run(connection, revocations.revoke(tenant, recipient))
        done = audit.Entry(audit.operator(), "access.revoked", tenant, recipient or None)
        statements.run(connection, audit.record(done))
    whose = f"Everyone's access in {tenant}" if everyone else f"The access of {recipient} in {tenant}"
    out.print(f"{whose} is revoked: what was issued up to now is void.", markup=False)
    _tell(revocations.order(made))


def _tell(order: bytes) -> None:
    """Have open streams end at once; without Redis, they do with their next re-check."""
    from shared.errors import StartError
    from shared.settings import settings
    from shared.stream_redis import AWAY, Client, publisher
    from shared.wake import CONTROL_CHANNEL

    try:
        with Client(TELL_S)() as client:
            publisher(client)(CONTROL_CHANNEL, order)
    except (StartError, *AWAY):
        seconds = int(settings().recheck_seconds)
        err.print(f"Redis does not answer: open streams end within {seconds} s.", style="yellow", markup=False)
