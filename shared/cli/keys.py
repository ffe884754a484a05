"""`carillon key`, `carillon secret` and `carillon token`: credentials, each shown once and last on its last line."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import typer
from rich.table import Table

from shared.cli.console import CommandFailed, out
from shared.cli.times import seconds_of, spelled

EVERY_TENANT = "*"
#: The server refuses tokens that live longer: such a token is a password.
MAX_TTL_SECONDS = 24 * 3600
#: A key that is to last longer needs no end.
MAX_KEY_SECONDS = 10 * 365 * 24 * 3600
_TIMES = {"created_at": "created", "last_used_at": "last used", "expires_at": "ends", "revoked_at": "revoked"}

key_app = typer.Typer(no_args_is_help=True, help="Producer keys: make, list, revoke.")
secret_app = typer.Typer(no_args_is_help=True, help="Signing secrets of webhooks and Celery producers.")


class Scope(StrEnum):
    """What a producer key allows."""

    EVENTS_WRITE = "events:write"
    DIRECTORY_WRITE = "directory:write"
    OPS_READ = "ops:read"
    OPS_WRITE = "ops:write"


class Purpose(StrEnum):
    """Who signs with a secret."""

    CELERY = "celery"
    GITHUB = "github"
    STANDARD = "standard"


@key_app.command("create")
def key_create(
    tenant: list[str] = typer.Option(
        ..., "--tenant", help="A tenant, made if it is new; '*' for every tenant. Repeatable."
    ),
    scope: list[Scope] = typer.Option([Scope.EVENTS_WRITE], "--scope", help="What it allows. Repeatable."),
    expires: str = typer.Option("", "--expires", help="When it ends by itself, like 90d; unset: when it is revoked."),
) -> None:
    """Make a producer key. It stands alone on the last line and is never shown again."""
    from shared import audit, db, homes, key_store
    from shared.plans import run_plan

    every = EVERY_TENANT in tenant
    lives = seconds_of("--expires", expires, MAX_KEY_SECONDS) if expires else None
    for name in tenant:
        if name != EVERY_TENANT:
            run_plan(homes.make_tenant(name, audit.operator()))
    with db.transaction(db.EVERY_TENANT) as connection:
        made = key_store.create_key(connection, None if every else tenant, [str(one) for one in scope], lives)
    where = "every tenant" if every else ", ".join(tenant)
    out.print(f"A producer key for {where} ({', '.join(scope)}). Keep it: it is not shown again.", markup=False)
    out.print(made, markup=False)


@key_app.command("list")
def key_list() -> None:
    """Show the keys: prefixes, tenants, scopes and times, never the keys themselves."""
    from shared import db, key_store

    with db.transaction(db.EVERY_TENANT) as connection:
        rows = key_store.list_keys(connection)
    table = Table("prefix", "tenants", "scopes", *_TIMES.values(), "state", box=None, pad_edge=False)
    for row in rows:
        tenants = EVERY_TENANT if row["tenants"] is None else ", ".join(row["tenants"])
        times = [_time(row[name]) for name in _TIMES]
        table.add_row(row["prefix"], tenants, ", ".join(row["scopes"]), *times, _state(row))
    out.print(table if rows else "There is no producer key yet: `carillon key create` makes one.")


def _state(row: dict[str, Any]) -> str:
    if row["live"]:
        return "live" if row["expires_at"] is None else "ends"
    return "revoked" if row["revoked_at"] is not None else "expired"


def _time(value: Any) -> str:
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%SZ}"


@key_app.command("revoke")
def key_revoke(prefix: str = typer.Argument(..., help="The key's prefix, as `carillon key list` shows it.")) -> None:
    """Revoke a key: what it sends from now on is refused."""
    from shared import db, key_store

    with db.transaction(db.EVERY_TENANT) as connection:
        if not key_store.revoke_key(connection, prefix):
            raise CommandFailed(f"There is no live key {prefix}: `carillon key list` shows them.")
    out.print(f"The key {prefix} is revoked.", markup=False)


@key_app.command("rotate")
def key_rotate(
    prefix: str = typer.Argument(..., help="The live key's prefix, as `carillon key list` shows it."),
    overlap: str = typer.Option("24h", "--overlap", help="How long the old key goes on: like 30m, 24h, 7d."),
) -> None:
    """Make a key that may do what an old one may; both are live for a while. It stands alone on the last line."""
    from shared import db, key_store

    lasts = seconds_of("--overlap", overlap, MAX_KEY_SECONDS)
    with db.transaction(db.EVERY_TENANT) as connection:
        made, ends = key_store.rotate_key(connection, prefix, lasts)
    out.print(
        f"A new key in place of {prefix}, which ends at {_time(ends)}. Keep it: it is not shown again.", markup=False
    )
    out.print(made, markup=False)


@secret_app.command("create")
def secret_create(
    purpose: Purpose = typer.Option(..., "--for", help="Who signs with it."),
    tenant: str = typer.Option(..., "--tenant", help="The tenant that its events belong to; made if it is new."),
) -> None:
    """Make a signing secret: its id, then the secret alone on the last line, never shown again."""
    from shared import audit, db, homes, signing
    from shared.plans import run_plan

    run_plan(homes.make_tenant(tenant, audit.operator()))
    with db.transaction(db.EVERY_TENANT) as connection:
        id, made = signing.create_secret(connection, purpose.value, tenant)
    out.print(f"A secret for {purpose.value} in {tenant}. Keep it: it is not shown again.", markup=False)
    out.print(f"id {id}", markup=False)
    out.print(made, markup=False)


def token(
    tenant: str = typer.Option(..., "--tenant", help="The recipient's tenant."),
    recipient: str = typer.Option(..., "--recipient", help="Whom the token speaks for."),
    role: list[str] = typer.Option([], "--role", help="A role to claim. Repeatable."),
    ttl: str = typer.Option("1h", "--ttl", help="How long it lives: seconds, or like 15m, 1h; 24h at most."),
) -> None:
    """Print a recipient's token (JWT), made with the configured secret."""
    from shared.cloudevent import is_name
    from shared.directory import NAME
    from shared.tokens import make_token

    for option, names in (("--tenant", [tenant]), ("--recipient", [recipient]), ("--role", role)):
        if not all(map(is_name, names)):
            raise CommandFailed(f"{option} {NAME}.")
    out.print(make_token(tenant, recipient, role, _seconds(ttl)), markup=False)


def _seconds(ttl: str) -> int:
    seconds = None if ttl.endswith("d") else spelled(ttl)
    if seconds is None or not 0 < seconds <= MAX_TTL_SECONDS:
        raise CommandFailed("--ttl must be a time from 1s to 24h, such as 900, 15m or 1h.")
    return seconds
