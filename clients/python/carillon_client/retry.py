"""When to try again, and after how long."""

from __future__ import annotations

import random

#: Answers that say "later": too many requests, and a server (or a proxy before it) whose parts are away.
LATER = frozenset({429, 502, 503, 504})
#: Seconds before the second try; doubled for each one after it.
FIRST_PAUSE_S = 0.2
#: No pause is longer, so that a server that is back is not waited for.
LONGEST_PAUSE_S = 10.0


def pause_after(tries: int, retry_after: str | None = None, chance: float | None = None) -> float:
    """Return how many seconds to wait after so many tries (1 or more).

    At least what the server asks for; beyond that, between half and the whole of an exponential back-off, by `chance`
    (0 to 1, random unless given): clients that failed together do not come back together.
    """
    longest = min(FIRST_PAUSE_S * 2.0 ** min(tries - 1, 30), LONGEST_PAUSE_S)
    asked = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
    spread = random.random() if chance is None else chance  # noqa: S311 - spreads load, guards nothing
    return asked + longest * (0.5 + spread / 2)
