"""When to try again, and after how long."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from carillon_client.errors import Unavailable

PATIENCE_S = 60.0
#: Answers that say "later": too many requests, and a server (or a proxy before it) whose parts are away.
LATER = frozenset({429, 502, 503, 504})
#: Seconds before the second try; doubled for each one after it.
FIRST_PAUSE_S = 0.2
#: More seconds than these digits write is for ever.
_MOST_DIGITS = 9
#: No pause is longer, so that a server that is back is not waited for.
LONGEST_PAUSE_S = 10.0


def pause_after(tries: int, retry_after: str | None = None, chance: float | None = None) -> float:
    """Return how many seconds to wait after so many tries (1 or more).

    At least what the server asks for; beyond that, between half and the whole of an exponential back-off, by `chance`
    (0 to 1, random unless given): clients that failed together do not come back together.
    """
    longest = min(FIRST_PAUSE_S * 2.0 ** min(tries - 1, 30), LONGEST_PAUSE_S)
    asked = _asked(retry_after)
    spread = random.random() if chance is None else chance  # noqa: S311 - spreads load, guards nothing
    return asked + longest * (0.5 + spread / 2)


def _asked(retry_after: str | None) -> float:
    """Return the seconds of a `Retry-After`: a number, or a date; what is neither, or over already, asks for none."""
    if retry_after is None:
        return 0.0
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:_MOST_DIGITS])
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


class Patience:
    """How long one request is repeated: counts its tries, and the seconds since the first."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._tries = 0

    def pause(self, answer: httpx.Response | None) -> float:
        """Return how many seconds to wait before the next try; `answer` None: the server could not be reached.

        Raises `Unavailable` where that would be longer than patience lasts.
        """
        self._tries += 1
        pause = pause_after(self._tries, answer.headers.get("retry-after") if answer is not None else None)
        if time.monotonic() + pause > self._deadline:
            why = "could not be reached" if answer is None else f"answered {answer.status_code}"
            raise Unavailable(f"The server {why}, {self._tries} times within {self._seconds:g} s.")
        return pause
