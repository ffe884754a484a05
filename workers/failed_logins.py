"""Failed logins: counted in windows of their accounts, told as one event for each, and told anew while they go on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

import beat_schedule
from shared import databases, db, failed_logins, told_anew
from shared.events import hash_of
from shared.failed_logins import GROWING, KEPT_AFTER, TOLD
from shared.login_windows import Failure, Placed, Rule, Window, data_of, event_id, place, told_time
from shared.logs import log
from shared.settings import settings
from workers.app import FORWARD_TASK, app, send, wake
from workers.everywhere import in_every_database
from workers.jobs import Run, in_batches, perform
from workers.prepare import Row
from workers.publish import Message, publish
from workers.telling import News, Telling

#: Failures that one transaction counts at most (50 µs each on an idle machine).
BATCH = 2_000
#: Windows that one transaction tells anew; fewer where their audiences are more than a chunk.
WINDOWS = 200
#: Either part of a run ends after this and the rest is queued again: in its lane the sweeper waits behind it.
PART_S = 2.0


class Account(NamedTuple):
    """Whose logins fail."""

    tenant: str
    name: str


@app.task(name=beat_schedule.FAILED_LOGINS_TASK)
def failed_logins_task() -> None:
    """Count failed logins and tell what is new of them."""
    if not in_every_database(beat_schedule.FAILED_LOGINS_TASK, run):
        send(beat_schedule.FAILED_LOGINS_TASK)


def run(now: datetime | None = None) -> bool:
    """Count what is staged, tell anew what is due, forget what led to nothing; returns whether all was done.

    Of two runs at once one finds that it is not its turn and leaves the work to the other. `now` None: the database's.
    """
    return perform(beat_schedule.FAILED_LOGINS_TASK, _run, now)


def _run(run: Run) -> bool:
    counted = in_batches(lambda: count_some(run.now, run), PART_S)
    told = in_batches(lambda: tell_some(run.now, run), PART_S)
    if databases.is_split():
        told = in_batches(lambda: tell_forwarded(run), PART_S) and told
    forgotten = in_batches(lambda: _forget_some(run.now), PART_S)
    return counted and told and forgotten


def count_some(now: datetime | None = None, run: Run | None = None) -> bool:
    """Count one batch in one transaction, for a run; returns whether there may be more."""
    with _timed(run), db.transaction(db.EVERY_TENANT) as connection:
        moment = connection.scalar(failed_logins.take_turn(), {"now": now})
        if moment is None:
            return False
        limit = BATCH if run is None else min(BATCH, run.batch)
        rows = connection.execute(failed_logins.staged(), {"limit": limit}).mappings().all()
        if not rows:
            return False
        counting = _Counting(connection, _rule(), moment)
        counting.count(rows)
    if run is not None:
        run.done += len(rows)
    if counting.windows:
        log().info("failed_logins.windows_opened", windows=counting.windows)
        wake()
    return len(rows) == limit


def _timed(run: Run | None) -> AbstractContextManager[None]:
    return nullcontext() if run is None else run.timed()


def _rule() -> Rule:
    chosen = settings()
    return Rule(chosen.failed_login_threshold, timedelta(minutes=chosen.failed_login_window_minutes))


def _failure(row: Row) -> Failure:
    return Failure(row["event_key"], row["at"], row["ip"], row["user_agent"])


@dataclass(slots=True)
class _Known:
    """An account of a batch: its failures that are in no window, and the windows near them."""

    failures: list[Failure] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)


class _Counting:
    """One batch inside its transaction."""

    def __init__(self, connection: Connection, rule: Rule, now: datetime) -> None:
        self.windows = 0
        self._connection, self._rule, self._now = connection, rule, now

    def count(self, rows: Sequence[Row]) -> None:
        """Place every failure: each leaves the stage with its count, or is kept for others."""
        known: dict[Account, _Known] = defaultdict(_Known)
        for row in rows:
            if not row["cancelled"]:
                known[Account(row["tenant"], row["account"])].failures.append(_failure(row))
        if known:
            self._recall(known)
        placed = {account: place(each.windows, each.failures, self._rule) for account, each in known.items()}
        self._write(rows, known, placed)

    def _recall(self, known: dict[Account, _Known]) -> None:
        """Add what is stored of the batch's accounts."""
        given = self._near(known)
        for row in self._connection.execute(failed_logins.kept(), given).mappings():
            if not row["cancelled"]:
                known[Account(row["tenant"], row["account"])].failures.append(_failure(row))
        # What was kept may lie earlier than the batch's own, and near an earlier window.
        for row in self._connection.execute(failed_logins.standing(), self._near(known)).mappings():
            stored = {**row, "addresses": tuple(row["addresses"])}
            account = Account(stored.pop("tenant"), stored.pop("account"))
            known[account].windows.append(Window(**stored))

    def _near(self, known: Mapping[Account, _Known]) -> dict[str, list[Any]]:
        length = self._rule.length
        return {
            "tenants": [account.tenant for account in known],
            "accounts": [account.name for account in known],
            "lows": [min(failure.at for failure in each.failures) - length for each in known.values()],
            "highs": [max(failure.at for failure in each.failures) + length for each in known.values()],
        }

    def _write(self, rows: Sequence[Row], known: Mapping[Account, _Known], placed: Mapping[Account, Placed]) -> None:
        kept = {failure.event_key for each in placed.values() for failure in each.kept}
        cancelled = {row["event_key"] for row in rows if row["cancelled"]}
        gone = {failure.event_key for each in known.values() for failure in each.failures} - kept | cancelled
        new = kept & {row["event_key"] for row in rows}
        execute = self._connection.execute
        if new:
            execute(failed_logins.keep(), {"keys": sorted(new), "now": self._now})
        if gone:
            execute(failed_logins.unstage(), {"keys": sorted(gone)})
        grown = [window for each in placed.values() for window in each.grown]
        if grown:
            execute(failed_logins.grow_windows(), {"keys": [window.key for window in grown], **_growing(grown)})
        self._open([(account, window) for account, each in placed.items() for window in each.opened])

    def _open(self, opened: Sequence[tuple[Account, Window]]) -> None:
        if not opened:
            return
        named = {
            "tenants": [account.tenant for account, _ in opened],
            "accounts": [account.name for account, _ in opened],
            "ids": [event_id(account.name, window.started_at) for account, window in opened],
        }
        self._connection.execute(failed_logins.make_events(), {**named, **_events(opened)})
        windows = [window for _, window in opened]
        given = {**named, "starts": [window.started_at for window in windows], **_growing(windows), "now": self._now}
        self._connection.execute(failed_logins.open_windows(), given)
        self.windows += len(opened)


def _events(opened: Iterable[tuple[Account, Window]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"times": [], "datas": [], "hashes": [], "moments": []}
    for account, window in opened:
        data, time = data_of(account.name, window), told_time(window.last_at)
        content = {"type": TOLD, "subject": account.name, "time": time, "dataschema": None, "data": data}
        values = (time, orjson.dumps(data).decode(), hash_of(content), window.last_at)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return columns


def _growing(windows: Iterable[Window]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in GROWING}
    for window in windows:
        for name, column in columns.items():
            value = getattr(window, name)
            column.append(orjson.dumps(value).decode() if name == "addresses" else value)
    return columns


def tell_some(now: datetime | None = None, run: Run | None = None) -> bool:
    """Tell some windows anew in one transaction, for a run; returns whether there may be more."""
    messages: list[Message] = []
    forwarded = False
    with _timed(run), db.transaction(db.EVERY_TENANT) as connection:
        moment = connection.scalar(failed_logins.take_turn(), {"now": now})
        if moment is None:
            return False
        given = {"now": moment, "limit": WINDOWS if run is None else min(WINDOWS, run.batch)}
        rows = connection.execute(failed_logins.claim_untold(), given).mappings().all()
        if rows:
            telling = _TellingWindows(connection, [_news(row) for row in rows], moment)
            messages, forwarded = telling.tell(), telling.forwarded
    publish(messages)
    if forwarded:
        send(FORWARD_TASK)
    if run is not None:
        run.done += len(rows)
    return bool(rows)


def _news(row: Row) -> News:
    names = ("started_at", "failures", "first_at", "last_at", "ip", "user_agent")
    window = Window(**{name: row[name] for name in names}, addresses=tuple(row["addresses"]))
    return News(row, data_of(row["account"], window), row["failures"], row["telling"], row["told_up_to"])


class _TellingWindows(Telling):
    """Some windows that have more than was told; what they tell is left for other databases, too."""

    def __init__(self, connection: Connection, news: Sequence[News], now: datetime) -> None:
        super().__init__(connection, news)
        self._now = now
        self.forwarded = False

    def note_told(self, news: Sequence[News], *, tellable: bool = True) -> None:
        given = {"keys": [each.row["window"] for each in news], "told": [each.told for each in news], "now": self._now}
        self._connection.execute(failed_logins.set_told(), given)
        if tellable and databases.is_split():
            self._leave(news)

    def _leave(self, news: Sequence[News]) -> None:
        given = {
            "keys": [each.row["key"] for each in news],
            "revisions": [each.revision for each in news],
            "datas": [orjson.dumps(each.data).decode() for each in news],
        }
        self.forwarded |= self._connection.execute(told_anew.leave(), given).rowcount > 0

    def note_range(self, news: News, told_up_to: int) -> None:
        given = {"key": news.row["window"], "telling": news.told, "told_up_to": told_up_to}
        self._connection.execute(failed_logins.set_telling(), given)


def tell_forwarded(run: Run) -> bool:
    """Tell some events anew that were forwarded to here, for a run, as their home told them; returns whether there may
    be more.
    """
    messages: list[Message] = []
    with db.transaction(db.EVERY_TENANT) as connection:
        if connection.scalar(failed_logins.take_turn(), {"now": None}) is None:
            return False
        rows = connection.execute(told_anew.claim_untold(), {"limit": WINDOWS}).mappings().all()
        if rows:
            names = ("revision", "telling", "told_up_to")
            news = [News(row, row["says"], **{name: row[name] for name in names}) for row in rows]
            messages = _TellingForwarded(connection, news).tell()
    publish(messages)
    run.done += len(rows)
    return bool(rows)


class _TellingForwarded(Telling):
    """Some events of other databases that were told anew there."""

    def note_told(self, news: Sequence[News], *, tellable: bool = True) -> None:
        given = {"keys": [each.row["key"] for each in news], "told": [each.told for each in news]}
        self._connection.execute(told_anew.set_told(), given)

    def note_range(self, news: News, told_up_to: int) -> None:
        given = {"key": news.row["key"], "telling": news.told, "told_up_to": told_up_to}
        self._connection.execute(told_anew.set_telling(), given)


def _forget_some(now: datetime | None) -> bool:
    with db.transaction(db.EVERY_TENANT) as connection:
        moment = connection.scalar(failed_logins.take_turn(), {"now": now})
        if moment is None:
            return False
        given = {"before": moment - _rule().length - KEPT_AFTER, "limit": BATCH}
        return connection.execute(failed_logins.forget(), given).rowcount == BATCH
