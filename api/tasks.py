"""Background tasks: their pauses, and ending them for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from structlog.contextvars import unbind_contextvars

T = TypeVar("T")

#: Between two cancellations of a task that went on after the first.
AGAIN_S = 0.05


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Return after so many seconds, or as soon as `stopping` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


def apart(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begin work that several requests share: its log lines carry the id of none, not of the first alone."""
    context = copy_context()
    context.run(unbind_contextvars, "request_id")
    return asyncio.create_task(work, context=context)


async def end(*tasks: asyncio.Task[object] | None) -> None:
    """Cancel tasks until each has ended; None is ended already. What they raise is dropped.

    Once is not enough: Python 3.11's `asyncio.wait_for` swallows a cancellation that comes with the result that it
    waits for (python/cpython#86296, mended in 3.12), and redis-py sends every command with it. A loop around such a
    command then goes on for ever, and so does whoever waits for its end: a third of 200 tries, with a loop that did
    nothing else.
    """
    left = {task for task in tasks if task is not None and not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
