"""The epoch: a database that was copied or restored numbers anew, and no cursor of before is believed."""

from __future__ import annotations

import psycopg
import pytest

from shared import migration
from tests.producers import rows

EPOCH = "SELECT epoch FROM deployment"


def test_starting_again_keeps_the_epoch(database_url: str) -> None:
    migration.migrate(database_url)
    assert rows(database_url, EPOCH) == [(1,)]


@pytest.mark.parametrize("changed", ["system_identifier = 'another server'", "timeline = timeline + 1"])
def test_a_database_of_another_server_or_timeline_begins_a_new_epoch_once(database_url: str, changed: str) -> None:
    """Pins I7 for restored backups: with the old epoch, a cursor from before the restore would name other changes."""
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(f"UPDATE deployment SET {changed}".encode())
    migration.migrate(database_url)
    renewed = rows(database_url, EPOCH)
    assert renewed > [(1,)]
    migration.migrate(database_url)
    assert rows(database_url, EPOCH) == renewed
