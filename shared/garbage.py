"""The garbage collector of processes that serve: it looks rarely, and never again at what was there at the start."""

from __future__ import annotations

import gc

#: Allocations between collections; frames and rows make no cycles, so the default of 700 only lengthens the tails.
THRESHOLDS = (50_000, 50, 100)


def tune_gc() -> None:
    """Take what exists now out of the garbage collector's sight, and make its runs rare. Call once, after the start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
