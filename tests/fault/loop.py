"""An event loop in a thread of its own: the proxies and the load run there, while faults are plain blocking code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")
#: Whatever is asked of the loop is quick; a minute means that it hangs.
ANSWER_S = 60.0
CLOSING_S = 0.1


class LoopThread:
    """A running event loop, from the start of the object until `stop()`."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], within: float = ANSWER_S) -> T:
        """Run a coroutine there and return its result here."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(within)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a plain function there, between two turns of the loop, and return its result here."""

        async def calling() -> T:
            return function(*arguments)

        return self.run(calling())

    def stop(self) -> None:
        """End what still runs there, and the loop."""
        self.run(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(ANSWER_S)
        self.loop.close()

    async def _cancel_all(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # Connections that were closed or reset just now end in the loop's next turns.
        await asyncio.sleep(CLOSING_S)
