"""This machine and its settings: secrets, open files, room on the disk."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator

from shared.doctor.finding import Finding, Level
from shared.open_files import RESERVED
from shared.settings import Settings, unread_settings
from shared.settings_checks import is_weak

SECRETS = ("jwt_secret", "secret_key", "flower_password")
#: PostgreSQL stops at a full disk, and recovers only when there is room for its log again.
SCARCE_BYTES = 1024**3
FULL_BYTES = 128 * 1024**2


def checks(chosen: Settings) -> Iterator[Finding]:
    """Yield what this machine lacks."""
    for sentence in unread_settings():
        yield Finding("warning", "settings", sentence, "correct the variable's name, or take it away: docs/settings.md")
    yield from _secrets(chosen)
    yield from _files(chosen)
    yield from _disk(chosen)


def _secrets(chosen: Settings) -> Iterator[Finding]:
    for name in SECRETS:
        value = getattr(chosen, name)
        if value is not None and is_weak(value.get_secret_value()):
            yield Finding(
                "warning",
                "secrets",
                f"CARILLON_{name.upper()} looks like an example, not like a secret: production does not start with it",
                "draw another: python -c 'import secrets; print(secrets.token_urlsafe(48))'",
            )


def _files(chosen: Settings) -> Iterator[Finding]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = chosen.streams_per_process + RESERVED
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        yield Finding("ok", "open_files", f"there is room for {chosen.streams_per_process:,} streams in a process")
        return
    yield Finding(
        "warning",
        "open_files",
        f"the hard limit of open files ({hard:,}) leaves room for {max(1, hard - RESERVED):,} streams in a process, "
        f"not for {chosen.streams_per_process:,}",
        f"raise it to {wanted:,} (systemd: LimitNOFILE; Docker: --ulimit nofile), or lower "
        "CARILLON_STREAMS_PER_PROCESS",
    )


def _disk(chosen: Settings) -> Iterator[Finding]:
    if not chosen.data_dir.exists():
        return
    free = shutil.disk_usage(chosen.data_dir).free
    told = f"{free / 1024**3:,.1f} GiB are free where {chosen.data_dir} lies"
    if free >= SCARCE_BYTES:
        yield Finding("ok", "disk", told)
    else:
        level: Level = "failure" if free < FULL_BYTES else "warning"
        yield Finding(level, "disk", told, "make room: with a full disk, PostgreSQL accepts nothing")
