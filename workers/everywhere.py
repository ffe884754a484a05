"""Jobs that go over all databases, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from shared import databases
from workers.patience import patience


def in_every_database(task: str, work: Callable[[], bool | None]) -> bool:
    """Do the work in every database; returns whether none of them said False. One that is away keeps none waiting."""
    all_done = True
    for name in databases.names():
        with patience(task), databases.working_in(name):
            all_done = work() is not False and all_done
    return all_done
