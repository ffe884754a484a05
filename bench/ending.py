"""A measurement that is told to end stops what it has started."""

from __future__ import annotations

import signal
import sys
from types import FrameType

#: A shell's `kill`, and a terminal that was closed.
ENDING = (signal.SIGTERM, signal.SIGHUP)


def end_when_told() -> None:
    """Let these signals end this process as `sys.exit` does: what is in `with` and `finally` is done, once.

    A further one meanwhile changes nothing; what was ignored before (`nohup`) still is.
    """
    for each in ENDING:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _end)


def _end(number: int, _: FrameType | None) -> None:
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(f"Ended by {signal.Signals(number).name}.")
