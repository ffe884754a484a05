"""Which event each process of the pool is at, kept in memory that outlives the process.

An event that kills its process is known by that to whoever takes the dead one's place. Without it every batch with the
event in it takes a process with it, and the dead one's wake-up, which says that something is wrong, comes again behind
all others.
"""

from __future__ import annotations

import mmap
import struct
from typing import Any

from billiard import current_process
from celery import signals

from shared import databases

#: The place of the event's database among all, and the event's key, or 0.
_KEY = struct.Struct("=hq")
#: More than any pool's processes (`worker_concurrency` is 64 at most).
_PLACES = 128

#: Of a worker's main process and its pool's: a key for each place in the pool. None elsewhere.
_keys: mmap.mmap | None = None
_offset = 0
_predecessors: tuple[str, int] | None = None


@signals.worker_init.connect
def _share(**_: Any) -> None:
    global _keys  # noqa: PLW0603 - inherited by the pool's processes
    _keys = mmap.mmap(-1, _KEY.size * _PLACES)


@signals.worker_process_init.connect
def _take_place(**_: Any) -> None:
    global _offset, _predecessors  # noqa: PLW0603 - one for each process
    if _keys is None:
        return
    _offset = _KEY.size * (getattr(current_process(), "index", 0) % _PLACES)
    place, key = _KEY.unpack_from(_keys, _offset)
    _predecessors = (databases.names()[place], key) if key else None
    begin(0)


def begin(key: int) -> None:
    """Note that this process is at the event from now on; 0: at none. Costs less than a microsecond."""
    if _keys is not None:
        place = databases.names().index(databases.current()) if databases.is_split() else 0
        _KEY.pack_into(_keys, _offset, place, key)


def predecessors() -> tuple[str, int] | None:
    """Return the database and the key of the event that this process's predecessor was at when it died.

    None: it did not die, was at none, or `settle` was called.
    """
    return _predecessors


def settle() -> None:
    """Note that `predecessors` was taken care of."""
    global _predecessors  # noqa: PLW0603 - one for each process
    _predecessors = None
