"""The producer key of a command: the one given, or in development one that lives as long as the command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shared.cli.console import CommandFailed
from shared.settings import settings


@contextmanager
def producer_key(given: str | None, scopes: Sequence[str]) -> Iterator[str]:
    """Give `given`, or a fresh key for every tenant with `scopes`, revoked at the end.

    Raises `CommandFailed` where none is given in production: a key is made there by `carillon key create`, on purpose.
    """
    if given:
        yield given
        return
    if not settings().development:
        raise CommandFailed("Give a producer key: --key or CARILLON_KEY (`carillon key create` makes one).")
    from shared import db, key_store, keys

    with db.transaction(db.EVERY_TENANT) as connection:
        made = key_store.create_key(connection, None, scopes)
    try:
        yield made
    finally:
        with db.transaction(db.EVERY_TENANT) as connection:
            key_store.revoke_key(connection, keys.prefix_of(made))
