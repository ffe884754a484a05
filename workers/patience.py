"""What a worker does when the database fails it: nothing is lost, so it lets go and the sweeper begins anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared import db
from shared.logs import log
from workers.measure import note_away

#: A statement over its time is as likely its event's fault as the server's: an attempt is counted. One that was
#: cancelled before its time is not.
_QUERY_CANCELED = "57014"
#: Busy with somebody else's lock: the server is there, and other events may go through.
_BUSY = ("40001", "40P01", "55P03", _QUERY_CANCELED)


def is_away(error: BaseException) -> bool:
    """Tell whether the database cannot be worked with at all at this moment.

    Known fault: a connection that is cut counts as that, even where the event itself is what cuts it each time
    (docs/guarantees.md, G2). To tell the two apart takes a count of cuts beside the attempts: in a failover everything
    under way is cut, several times within seconds, and no innocent event may fail of it.
    """
    return db.is_transient(error) and db.sqlstate_of(error) not in _BUSY


def is_busy(error: BaseException) -> bool:
    """Tell whether somebody else's lock was in the way, for longer than it is waited for."""
    return db.sqlstate_of(error) in _BUSY and db.sqlstate_of(error) != _QUERY_CANCELED


def is_blameless(error: BaseException, seconds: float) -> bool:
    """Tell whether the failure says nothing about the event that was worked on, for so many seconds.

    A cut is held to say nothing either, with the known fault of `is_away`.
    """
    if db.sqlstate_of(error) == _QUERY_CANCELED:
        return seconds < db.STATEMENT_TIMEOUT_MS["worker"] / 1000
    return db.is_transient(error)


@contextmanager
def patience(task: str) -> Iterator[None]:
    """Run a block of work; a database that is away or busy ends it, logged, without an error."""
    try:
        yield
    except Exception as error:
        if not db.is_transient(error):
            raise
        note_away()
        log().warning("database.away", task=task, reason=type(error).__name__, sqlstate=db.sqlstate_of(error))
