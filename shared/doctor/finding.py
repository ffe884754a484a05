"""What every check yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.settings import Settings

Level = Literal["ok", "warning", "failure"]
#: Clocks this far apart move windows, expiry times and tokens noticeably.
SKEW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `check` is its constant name; `advice` says what to do where it is not ok."""

    level: Level
    check: str
    what: str
    advice: str = ""


def graver_in_production(chosen: Settings) -> Level:
    """Return the level of what a laptop may do without."""
    return "failure" if chosen.environment == "production" else "warning"


def skew_finding(check: str, whose: str, seconds: float) -> Finding:
    """Return what a clock that is `seconds` ahead of this machine's (negative: behind) means."""
    if abs(seconds) > SKEW_SECONDS:
        what = f"{whose} clock is {seconds:+.1f} s from this machine's"
        return Finding("warning", check, what, "let both follow NTP")
    return Finding("ok", check, f"{whose} clock agrees with this machine's")
