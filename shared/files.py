"""Writing files that must be whole and private."""

from __future__ import annotations

import os
from pathlib import Path

from shared.unprivileged import Account


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Leave `text` in `path`, whole or not at all, readable by its owner alone: `account`, or this process's user."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    if account:
        os.chown(fresh, account.user, account.group)
    fresh.replace(path)
