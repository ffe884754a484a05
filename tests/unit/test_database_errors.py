"""What is read off a database's error, whether SQLAlchemy raised it or psycopg itself, as amid a COPY."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, OperationalError

from shared import db
from workers.patience import is_away, is_blameless, is_busy


def _wrapped(error: psycopg.Error) -> DBAPIError:
    return DBAPIError("SELECT 1", None, error)


@pytest.mark.parametrize("wrap", [_wrapped, lambda error: error], ids=["by SQLAlchemy", "bare"])
@pytest.mark.parametrize(
    ("error", "state", "told"),
    [
        (errors.AdminShutdown(), "57P01", ["away", "blameless"]),
        (errors.QueryCanceled(), "57014", ["blameless"]),
        (errors.LockNotAvailable(), "55P03", ["busy", "blameless"]),
        (errors.UndefinedTable(), "42P01", ["unmigrated"]),
    ],
)
def test_an_error_says_the_same_however_it_comes(
    wrap: Callable[[psycopg.Error], Exception], error: psycopg.Error, state: str, told: list[str]
) -> None:
    raised = wrap(error)
    found = {
        "away": is_away(raised),
        "busy": is_busy(raised),
        "blameless": is_blameless(raised, 0.1),
        "unmigrated": db.is_unmigrated(raised),
    }
    assert db.sqlstate_of(raised) == state
    assert [name for name, is_so in found.items() if is_so] == told


def test_a_connection_that_is_gone_has_no_state_and_is_waited_for() -> None:
    gone = psycopg.OperationalError("server closed the connection unexpectedly")
    for told in (gone, OperationalError("SELECT 1", None, gone)):
        assert (db.sqlstate_of(told), is_away(told)) == (None, True)


def test_other_errors_are_no_databases() -> None:
    for told in (ValueError("wrong"), None):
        assert db.sqlstate_of(told) is None
    assert not db.is_transient(ValueError("wrong"))
