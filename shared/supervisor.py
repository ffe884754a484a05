"""Starts parts in stages, keeps them running, and stops them in the reverse order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from shared.errors import StartError
from shared.joint_log import JointLog
from shared.processes import Keeper, Part

T = TypeVar("T")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """The parts that were started, stage by stage. Belongs to one event loop, in the main thread.

    (In the main thread because a child's death signal comes with the end of the thread that started it.)
    """

    def __init__(self, log: JointLog) -> None:
        self._log = log
        self._stages: list[list[Keeper]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, parts: Iterable[Part]) -> None:
        """Start one stage without waiting for it. It will be stopped before the stages started earlier."""
        stage = [Keeper(part, self._log) for part in parts]
        self._stages.append(stage)
        self._tasks |= {keeper.start() for keeper in stage}

    async def ready(self, within: float) -> None:
        """Return once every part started so far is ready.

        Raises `StartError`: after `within` seconds, naming those that are not; or when one of them died too often.
        """
        if not any(self._stages):
            return
        waiting = {asyncio.create_task(keeper.ready()): keeper.part.name for stage in self._stages for keeper in stage}
        try:
            await self.unless_hopeless(asyncio.wait(waiting, timeout=within))
        finally:
            late = sorted(name for task, name in waiting.items() if not task.done())
            for task in waiting:
                task.cancel()
        if late:
            raise StartError(f"Not ready within {within:g} s: {', '.join(late)}. The log above says why.")

    async def unless_hopeless(self, work: Awaitable[T]) -> T:
        """Return the result of `work`, unless a part dies too often meanwhile: then raise its `StartError`."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for kept in self._tasks:
                if kept.done():
                    kept.result()
            return await task
        finally:
            task.cancel()

    async def stop(self) -> None:
        """Return when no part is left: the last stage first, the parts of one stage together."""
        while self._stages:
            await asyncio.gather(*(keeper.stop() for keeper in self._stages[-1]))
            self._stages.pop()

    def kill(self) -> None:
        """End every part at once, for whoever cannot wait."""
        for stage in self._stages:
            for keeper in stage:
                keeper.kill()


async def until_told_to_stop(supervisor: Supervisor, work: Awaitable[None], log: JointLog) -> None:
    """Run `work` until it ends or a stop signal comes, then stop every part.

    The first signal asks for an orderly stop, a second one kills. Returns after a signal; raises what `work` raised.
    """
    task = asyncio.ensure_future(work)
    stopping = asyncio.Event()

    def told() -> None:
        if stopping.is_set():
            log.line("carillon", "killing all parts")
            supervisor.kill()
            return
        stopping.set()
        log.line("carillon", "stopping; once more kills")

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, told)
    signalled = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # From here on a signal finds the stop under way.
        stopping.set()
        task.cancel()
        await asyncio.wait({task, signalled})
        await supervisor.stop()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
    if not task.cancelled():
        task.result()
