"""Running a program as somebody else when we are root, wherever its files lie; see `launch.py` for the exec itself."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from shared import launch
from shared.errors import StartError

USER_NAME = "carillon"
#: Tried in this order when the user of our own can be neither found nor made.
FALLBACK_USERS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a program runs as."""

    user: int
    group: int


def _lookup(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid)


def _create(name: str) -> Account | None:
    useradd = shutil.which("useradd")
    if useradd is None:
        return None
    command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    subprocess.run(command, check=False, capture_output=True)
    # Looked up whatever useradd said: two starts at once race for the lock of the password file, and one wins.
    return _lookup(name)


def account_for(home: Path) -> Account | None:
    """Return whom the server that keeps its data in `home` runs as; None where that is simply ourselves.

    PostgreSQL refuses to run as root. Data that is there already keeps its owner.
    """
    if os.geteuid() != 0:
        return None
    if home.exists() and (owner := home.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    found = _lookup(USER_NAME) or _create(USER_NAME) or next(filter(None, map(_lookup, FALLBACK_USERS)), None)
    if found is None:
        raise StartError("As root, the embedded servers need an unprivileged user to run as, and there is none.")
    return found


def _closed_to_others(path: Path) -> bool:
    return not path.stat().st_mode & stat.S_IXOTH


def needed_capability(program: Path, home: Path) -> str | None:
    """Return what an unprivileged user lacks to run `program` with its data in `home`; None if it lacks nothing.

    A folder above either that others may not search (mktemp -d as root makes such) needs `search`; a program that
    others may not execute (installed under umask 077) needs `override`. Where a container withholds `search`,
    `override` covers it.
    """
    permitted = launch.permitted_capabilities()
    if _closed_to_others(program):
        return "override"
    folders = {*program.resolve().parents, *home.resolve().parents}
    if not any(_closed_to_others(folder) for folder in folders):
        return None
    return "search" if "search" in permitted else "override"


def launched(
    program: list[str],
    *,
    death_signal: signal.Signals,
    account: Account | None = None,
    capability: str | None = None,
) -> list[str]:
    """Return the command that runs `program` as `account` and sends it `death_signal` when this process dies.

    "This process" is the thread that forks: start children from the main thread.
    """
    command = [
        sys.executable,
        "-I",
        "-S",
        launch.__file__,
        f"--parent={os.getpid()}",
        f"--death-signal={death_signal:d}",
    ]
    if account:
        command += [f"--user={account.user}", f"--group={account.group}"]
    if account and capability:
        command.append(f"--capability={capability}")
    return [*command, "--", *program]
