"""One log of many parts: a line each, with the part's name in front, in a colour of its own on a terminal."""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from collections.abc import Mapping
from itertools import cycle

from rich.console import Console, RenderableType

#: A terminal that nobody reads (a full pipe, Ctrl-S) must not hold up the supervisor: beyond this, lines are dropped.
MAX_WAITING_LINES = 10_000
FLUSH_SECONDS = 1.0
FLUSH_POLL_SECONDS = 0.01
PREFIX_WIDTH = 11
#: ANSI colours that can be read on a dark and on a light ground: cyan, magenta, blue, green, yellow, then bright ones.
COLOURS = (36, 35, 34, 32, 33, 96, 95, 94, 92, 93)
#: Everything that could move a cursor, forge a line or change a colour (tabs may stay).
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def use_colour(environment: Mapping[str, str], is_terminal: bool) -> bool:
    """Return whether to colour: never under NO_COLOR, always under FORCE_COLOR, else on a terminal that is not dumb."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return is_terminal and environment.get("TERM") != "dumb"


def visible(text: str) -> str:
    """Return `text` with its control characters written out, so that a part cannot forge another's line."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class JointLog:
    """Writes lines in the order told, from a thread of its own; telling never waits."""

    def __init__(self, descriptor: int = 1, *, colour: bool = False) -> None:
        self.colour = colour
        self._descriptor = descriptor
        self._lines: queue.Queue[str] = queue.Queue(MAX_WAITING_LINES)
        self._dropped = 0
        self._colours = cycle(COLOURS)
        self._colour_of: dict[str, int] = {}
        threading.Thread(target=self._write_all, daemon=True, name="joint-log").start()

    def line(self, part: str, text: str) -> None:
        """Tell one line of `part`; dropped and counted while 10,000 wait already."""
        self._put(f"{self._prefix(part)} {visible(text)}\n")

    def show(self, what: RenderableType) -> None:
        """Tell something of rich's, such as a panel."""
        rich = Console(force_terminal=self.colour, no_color=not self.colour, highlight=False)
        with rich.capture() as captured:
            rich.print(what)
        self._put(captured.get())

    def close(self) -> None:
        """Return when all is written, or after a second if nobody reads."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(FLUSH_POLL_SECONDS)

    def _prefix(self, part: str) -> str:
        name = f"{part:>{PREFIX_WIDTH}} │"
        if not self.colour:
            return name
        colour = self._colour_of.setdefault(part, 0) or next(self._colours)
        self._colour_of[part] = colour
        return f"\x1b[{colour}m{name}\x1b[0m"

    def _put(self, text: str) -> None:
        try:
            if self._dropped:
                self._lines.put_nowait(
                    f"{self._prefix('carillon')} {self._dropped} lines were dropped: nobody read them\n"
                )
                self._dropped = 0
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def _write_all(self) -> None:
        while True:
            data = self._lines.get().encode(errors="backslashreplace")
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                pass  # The reader is gone; the parts go on, and so does the count of what was written.
            self._lines.task_done()
