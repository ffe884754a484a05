"""Which failed logins of one account belong together: arithmetic on times, which knows no database.

A window opens with a failure that is in none, and lasts a fixed time. Its failures are told once they are as many as
the threshold. From then on the window stands: its start names its event. Until then a failure that comes late, with an
earlier time, moves the start; in whatever order less than a threshold's failures come, they make the same windows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from shared.cloudevent import MAX_ID

#: Distinct addresses that a window remembers, the latest ones: a botnet has more than anybody reads.
MAX_ADDRESSES = 100
#: Of them so many are told, the latest ones first.
TOLD_ADDRESSES = 10
#: Hex digits of an account's hash, where the account is too long for an event's id.
_HASH = 16


class Rule(NamedTuple):
    """As many failures, within so long after the first one, are told."""

    threshold: int
    length: timedelta


class Failure(NamedTuple):
    """One failed login, at the time that counts."""

    event_key: int
    at: datetime
    ip: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class Window:
    """A window that stands. `key` is None as long as it is not stored; `ip` and `user_agent` are the last failure's."""

    started_at: datetime
    failures: int
    first_at: datetime
    last_at: datetime
    ip: str | None
    user_agent: str | None
    #: Distinct, the latest last.
    addresses: tuple[str, ...]
    key: int | None = None

    def joined(self, failures: Iterable[Failure]) -> Window:
        """Return the window with more failures, each of which counts."""
        more = sorted(failures, key=lambda failure: (failure.at, failure.event_key))
        # A dict keeps its order: whoever comes again goes to the end.
        known = dict.fromkeys(self.addresses)
        for failure in more:
            if failure.ip is not None:
                known.pop(failure.ip, None)
                known[failure.ip] = None
        last = more[-1]
        is_later = last.at >= self.last_at
        return replace(
            self,
            failures=self.failures + len(more),
            first_at=min(self.first_at, more[0].at),
            last_at=max(self.last_at, last.at),
            ip=last.ip if is_later else self.ip,
            user_agent=last.user_agent if is_later else self.user_agent,
            addresses=tuple(known)[-MAX_ADDRESSES:],
        )


def opened(failures: Sequence[Failure]) -> Window:
    """Return the window that these open, the earliest of them first."""
    start = failures[0].at
    return Window(start, 0, start, start, None, None, ()).joined(failures)


@dataclass(slots=True)
class Placed:
    """Where an account's failures belong: windows that have more than before, new ones, and what is in none yet."""

    grown: list[Window] = field(default_factory=list)
    opened: list[Window] = field(default_factory=list)
    kept: list[Failure] = field(default_factory=list)


def place(windows: Sequence[Window], failures: Iterable[Failure], rule: Rule) -> Placed:
    """Place failures that are in no window, those that were kept before among them; each is counted once.

    `windows` are those of the account that stand, at least the ones that begin within the rule's length of a failure.
    Failures before a window that stands belong to it where a window that began with the first of them would have
    reached into it: had they come in time, there would have been one window.
    """
    by_start = {window.started_at: window for window in windows}
    starts = sorted(by_start)
    joining: dict[datetime, list[Failure]] = defaultdict(list)
    loose: list[Failure] = []
    for failure in sorted(failures, key=lambda failure: (failure.at, failure.event_key)):
        home = _standing_at(starts, failure.at, rule.length)
        (loose if home is None else joining[home]).append(failure)
    placed = Placed()
    for group in _groups(loose, rule.length):
        later = _standing_after(starts, group[0].at, rule.length)
        if later is not None:
            joining[later] += group
        elif len(group) >= rule.threshold:
            placed.opened.append(opened(group))
        else:
            placed.kept += group
    placed.grown = [by_start[start].joined(more) for start, more in joining.items()]
    return placed


def _standing_at(starts: Sequence[datetime], at: datetime, length: timedelta) -> datetime | None:
    before = bisect_right(starts, at) - 1
    return starts[before] if before >= 0 and at < starts[before] + length else None


def _standing_after(starts: Sequence[datetime], at: datetime, length: timedelta) -> datetime | None:
    after = bisect_right(starts, at)
    return starts[after] if after < len(starts) and starts[after] < at + length else None


def _groups(ordered: Sequence[Failure], length: timedelta) -> Iterator[list[Failure]]:
    group: list[Failure] = []
    for failure in ordered:
        if group and failure.at >= group[0].at + length:
            yield group
            group = []
        group.append(failure)
    if group:
        yield group


def told_time(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC: `2026-03-01T09:00:00Z`, with a fraction only where it has one."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def event_id(account: str, started_at: datetime) -> str:
    """Return `<account>:<window start>`; of an account too long for an id, its beginning, `~` and a hash of it."""
    start = told_time(started_at)
    room = MAX_ID - len(start) - 1
    if len(account) > room:
        account = f"{account[: room - _HASH - 1]}~{sha256(account.encode()).hexdigest()[:_HASH]}"
    return f"{account}:{start}"


def data_of(account: str, window: Window) -> dict[str, Any]:
    """Return the data of `security.login_failed` that tells a window as it is now."""
    told: dict[str, Any] = {
        "account_id": account,
        "failures": window.failures,
        "window_start": told_time(window.started_at),
        "first_failure": told_time(window.first_at),
        "last_failure": told_time(window.last_at),
        "ip": window.ip,
        "user_agent": window.user_agent,
    }
    if window.addresses:
        told["addresses"] = list(window.addresses[: -TOLD_ADDRESSES - 1 : -1])
        told["address_count"] = len(window.addresses)
    return {name: value for name, value in told.items() if value is not None}
