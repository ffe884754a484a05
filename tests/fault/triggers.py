"""Files by which a fault tells the cluster's processes what to do wrong; only the faulty applications look for them."""

from __future__ import annotations

import os
from pathlib import Path

#: The environment variable that names their folder.
FOLDER = "FAULT_TRIGGERS"

#: Kill this process when a transaction was committed and nothing of it published.
DIE_BEFORE_PUBLISH = "die-before-publish"
#: Publish nothing, as if every message were lost.
DROP_PUBLISH = "drop-publish"
#: Kill this process when events were committed and no worker was woken.
DIE_BEFORE_WAKE = "die-before-wake"
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
