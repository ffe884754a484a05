"""Lengths of time as people write them on the command line."""

from __future__ import annotations

from shared.cli.console import CommandFailed

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
#: Digits of a number that is meant.
_MAX_DIGITS = 10


def spelled(text: str) -> int | None:
    """Return the seconds that `text` spells (900, 15m, 1h, 7d), None where it spells none."""
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    is_number = number.isascii() and number.isdecimal() and len(number) <= _MAX_DIGITS
    return int(number) * unit if is_number else None


def seconds_of(option: str, text: str, most: int) -> int:
    """Return the seconds that an option spells, 1 to `most`; raises `CommandFailed` otherwise."""
    seconds = spelled(text)
    if seconds is None or not 0 < seconds <= most:
        raise CommandFailed(f"{option} must be a length of time, such as 30m, 24h or 7d.")
    return seconds
