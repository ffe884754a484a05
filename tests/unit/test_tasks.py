"""Background tasks end, even those that a library lets miss the first word."""

from __future__ import annotations

import asyncio

import pytest

from api.tasks import end


async def deaf(times: int, heard: list[int]) -> None:
    """Run for ever, losing `times` cancellations as `asyncio.wait_for` of Python 3.11 may lose one."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append(1)
            if len(heard) > times:
                raise


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_a_task_that_loses_a_cancellation_is_ended_all_the_same(times: int) -> None:
    heard: list[int] = []
    task = asyncio.create_task(deaf(times, heard))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(task, None)
    assert task.cancelled()
    assert len(heard) == times + 1


async def test_what_a_task_raises_at_its_end_is_dropped_and_ended_ones_are_left_alone() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("late")

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await end(task)
    await end(task)
    assert isinstance(task.exception(), ValueError)
