"""The workers' and beat's application for processes whose clock libfaketime sets.

Its version 0.9.10 refuses what Python's `time.sleep` asks for (clock_nanosleep until a monotonic time) once it is told
to leave the monotonic clock alone; waiting for an event that never comes asks for something else.
"""

from __future__ import annotations

import threading
import time

from workers.app import app

__all__ = ["app"]


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


setattr(time, "sleep", _sleep)  # noqa: B010 - mypy wants the very same signature
