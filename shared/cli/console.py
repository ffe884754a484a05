"""What every command of the command line shares: two consoles, and one sentence for a failure."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO

import structlog
import typer
from rich.console import Console

from shared.errors import CarillonError

#: A table that is piped or kept in a file is not cut at a terminal's 80 columns.
FILE_WIDTH = 180


def _console(stream: TextIO, *, stderr: bool) -> Console:
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=None if stream.isatty() else FILE_WIDTH)


#: Results go to standard output, so that they can be piped; progress and complaints to standard error.
out = _console(sys.stdout, stderr=False)
err = _console(sys.stderr, stderr=True)

#: What a shell expects of a program that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED = 130
#: Errors of single fields that one sentence names; the rest is counted.
MAX_NAMED_FIELDS = 8


class CommandFailed(CarillonError):
    """The command could not be carried out."""


def number_of(count: int, noun: str) -> str:
    """Return `1 row`, `2,344 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def run(app: Callable[..., Any], arguments: list[str] | None = None) -> int:
    """Run a typer application; return the exit code: 0, or 1 after one sentence on standard error, no traceback."""
    _keep_logs_apart()
    try:
        _require_text(sys.argv[1:] if arguments is None else arguments)
        return int(app(arguments, standalone_mode=False) or 0)
    except typer.Abort:
        return INTERRUPTED
    except (KeyboardInterrupt, typer.Exit):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has what it wanted (`carillon tail | head`); without this Python complains once more at its exit.
        sys.stdout = None
        return 0
    except Exception as problem:
        if _asked_for_nothing(problem):
            return 0
        sentence = sentence_of(problem)
        if sentence is None:
            raise
        err.print(sentence, style="red", markup=False)
        return 1


def _asked_for_nothing(problem: BaseException) -> bool:
    """Tell whether a command with subcommands was called alone: its help has been shown."""
    return type(problem).__name__ == "NoArgsIsHelpError"


def _require_text(arguments: list[str]) -> None:
    """Raise `CommandFailed` for bytes that are no text: no event, key or name can hold them."""
    for place, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise CommandFailed(f"Argument {place} is not UTF-8.") from None


def _keep_logs_apart() -> None:
    """Have the library's own log say warnings only, and to standard error: standard output is the command's."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def sentence_of(problem: BaseException) -> str | None:
    """Return the sentence for a failure of the outer world; None for a fault of this program, with its traceback."""
    if isinstance(problem, CarillonError):
        fields = fields_of(problem)
        # A title without a full stop leads over to what is wrong with the fields.
        return problem.detail + (":" if fields and problem.detail[-1] not in ".:" else "") + fields
    if isinstance(problem, typer.exceptions.TyperException):
        usage: Callable[[], str] | None = getattr(problem, "format_message", None)
        told = str(usage() if usage else problem).replace(": Value error, ", ": ")
        return f"{told}  (--help tells more.)"
    for name, translate in _TRANSLATIONS.items():
        if type(problem).__module__.partition(".")[0] == name:
            return translate(problem)
    if isinstance(problem, OSError):
        where = f"{problem.filename}: " if problem.filename else ""
        return f"{where}{problem.strerror or problem}."
    return None


def fields_of(problem: CarillonError) -> str:
    """Return what is wrong with which fields, to stand after the problem's own sentence; empty where none is named."""
    named = [f"{error.field} {error.message}".strip() for error in problem.errors]
    more = len(named) - MAX_NAMED_FIELDS
    told = "; ".join(named[:MAX_NAMED_FIELDS]) + (f"; and {more} more" if more > 0 else "")
    return f" {told}." if told else ""


def _database(problem: BaseException) -> str | None:
    """Return the sentence for what psycopg said through SQLAlchemy: away, not migrated, or nothing foreseen (None)."""
    from shared.db import is_unmigrated, reason_of

    origin = getattr(problem, "orig", problem)
    if is_unmigrated(problem):
        return "The database has no tables of Carillon yet, or older ones: run `carillon migrate`."
    if type(problem).__name__ not in ("OperationalError", "TimeoutError"):
        return None
    reason = reason_of(origin)
    return f"The database does not answer ({reason}): start it with `make up`, or correct CARILLON_DATABASE_URL."


def _http(problem: BaseException) -> str:
    return f"The server does not answer ({problem or type(problem).__name__})."


def _redis(problem: BaseException) -> str:
    return f"Redis does not answer ({problem}): start it with `make up`, or correct CARILLON_REDIS_URL."


#: By the package that raised, so that none of them is imported before a command needs it.
_TRANSLATIONS: dict[str, Callable[[BaseException], str | None]] = {
    "sqlalchemy": _database,
    "psycopg": _database,
    "httpx": _http,
    "httpcore": _http,
    "redis": _redis,
}
