"""What a worker does when the database fails it: nothing is lost, so it lets go and the sweeper begins anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import TimeoutError

from shared import db
from shared.logs import log
from workers.measure import note_away

#: A statement over its time is as likely its event's fault as the server's: an attempt is counted. One that was
#: cancelled before its time is not.
_QUERY_CANCELED = "57014"
#: A connection's end, by an administrator or a crash of another's too.
_CUT = ("08", "57P01", "57P02")
#: Busy with somebody else's lock: the server is there, and other events may go through.
_BUSY = ("40001", "40P01", "55P03", _QUERY_CANCELED)


def is_away(error: BaseException) -> bool:
    """Tell whether the database cannot be worked with at all at this moment.

    A connection that is cut counts as that (`is_cut`).
    """
    return db.is_transient(error) and db.sqlstate_of(error) not in _BUSY


def is_cut(error: BaseException) -> bool:
    """Tell whether the connection was lost amid the work: the database is away, or the work itself cost it.

    Whoever then finds the database there may suspect the work.
    """
    state = db.sqlstate_of(error)
    lost = state is None or state.startswith(_CUT)
    return db.is_transient(error) and (db.is_cut(error) or (lost and not isinstance(error, TimeoutError)))


def is_busy(error: BaseException) -> bool:
    """Tell whether somebody else's lock was in the way, for longer than it is waited for."""
    return db.sqlstate_of(error) in _BUSY and db.sqlstate_of(error) != _QUERY_CANCELED


def is_blameless(error: BaseException, seconds: float) -> bool:
    """Tell whether the failure says nothing about the event that was worked on, for so many seconds.

    A cut is held to say nothing either. Known fault: what cuts its connection each time is never given up, for which
    cuts had to be counted beside the attempts, so that no innocent one fails in a failover (docs/guarantees.md, G2).
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
