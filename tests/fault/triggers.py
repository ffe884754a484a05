"""Files by which a fault tells the cluster's processes what to do wrong; only the faulty applications look for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The environment variable that names their folder.
FOLDER = "FAULT_TRIGGERS"

#: Kill this process when a transaction was committed and nothing of it published.
DIE_BEFORE_PUBLISH = "die-before-publish"
#: Publish nothing, as if every message were lost.
DROP_PUBLISH = "drop-publish"
#: Kill this process when events were committed and no worker was woken.
DIE_BEFORE_WAKE = "die-before-wake"
#: Kill this process when a worker that lingers was asked to look, and not nudged.
DIE_BEFORE_NUDGE = "die-before-nudge"
#: Have whoever lingers say so.
TELL_LINGERING = "tell-lingering"
_LINGERS = "lingers-"
#: Wake no worker, whether asked by HTTP or by the database.
DROP_WAKE = "drop-wake"
#: Put every message into the broker twice.
DOUBLE = "double"


def _file(name: str) -> Path:
    return Path(os.environ[FOLDER]) / name


def is_set(name: str) -> bool:
    """Tell whether the fault is on."""
    return _file(name).exists()


def take(name: str) -> bool:
    """Tell whether the fault is on, and switch it off: of several processes one gets it."""
    try:
        _file(name).unlink()
    except FileNotFoundError:
        return False
    return True


@contextmanager
def lingering() -> Iterator[None]:
    """Say within the block that this process lingers, if somebody wants to know."""
    if not is_set(TELL_LINGERING):
        yield
        return
    file = _file(f"{_LINGERS}{os.getpid()}")
    file.touch()
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def who_linger(folder: Path) -> set[int]:
    """Return the processes that say so, those that died meanwhile among them."""
    return {int(file.name.removeprefix(_LINGERS)) for file in folder.glob(f"{_LINGERS}*")}


def forget_lingering(folder: Path, pid: int) -> None:
    """A process that said so is dead."""
    (folder / f"{_LINGERS}{pid}").unlink(missing_ok=True)
