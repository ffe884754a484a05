"""The one way in which tests wait: ask again until a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.02


def _failure(predicate: object, last: object, within: float) -> AssertionError:
    name = getattr(predicate, "__qualname__", repr(predicate))
    return AssertionError(f"not within {within} s: {name}; last seen: {last!r}")


def eventually(predicate: Callable[[], T], within: float = 10.0) -> T:
    """Return the first true value of `predicate()`. Raises AssertionError after `within` seconds.

    An AssertionError raised by the predicate counts as "not yet"; the last one is the cause of the failure.
    """
    deadline = time.monotonic() + within
    while True:
        last: object
        cause: AssertionError | None = None
        try:
            value = predicate()
            if value:
                return value
            last = value
        except AssertionError as problem:
            last, cause = problem, problem
        if time.monotonic() > deadline:
            raise _failure(predicate, last, within) from cause
        time.sleep(POLL_SECONDS)


async def eventually_async(predicate: Callable[[], Awaitable[T]], within: float = 10.0) -> T:
    """Return the first true value of `await predicate()`; otherwise like `eventually`."""
    deadline = time.monotonic() + within
    while True:
        last: object
        cause: AssertionError | None = None
        try:
            value = await predicate()
            if value:
                return value
            last = value
        except AssertionError as problem:
            last, cause = problem, problem
        if time.monotonic() > deadline:
            raise _failure(predicate, last, within) from cause
        await asyncio.sleep(POLL_SECONDS)
