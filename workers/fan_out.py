"""The fan-out of small audiences: batches of pending events under load, alone under light load, suspects one by one.

A task is a wake-up: which events are pending, PostgreSQL says.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from celery import Task
from sqlalchemy import Connection, text

from shared import db, fan_out, metrics, traces
from shared.following import trace_of
from shared.logs import log, place_of
from shared.settings import settings
from shared.wake import FAN_OUT_TASK
from workers import at_work
from workers.app import FAN_OUT_ONE_TASK, FORWARD_TASK, PLAN_TASK, app, send, wake
from workers.deliver import Delivery, deliver
from workers.linger import Linger, clear_flag, may_linger
from workers.measure import count_commits
from workers.patience import is_away, is_blameless, is_busy, is_cut, patience
from workers.prepare import Row
from workers.publish import publish

#: A task that still finds work after this hands over to a new wake-up, so that stops and time limits stay short.
LOOP_S = 10.0
#: Events that are tried together after a worker died: few to be tried one by one if one of them was the reason, and
#: enough that a batch's innocent ones cost little. One by one each waits for inboxes that other batches hold: 0.1 s.
GROUP = 20
#: How late the count of what was published may be: every batch would pay a transaction for it, as costly as its own.
COUNTS_S = 0.25
#: After a batch waited for an inbox in vain, the next ones wait for twice a usual batch's time only, as long as
#: PostgreSQL lets a transaction stand still: whoever holds it has stopped or has many, and each batch would meet them.
BUSY_S = db.IDLE_IN_TRANSACTION_MS / 1000
BUSY_LOCK_TIMEOUT_MS = 200
#: Until when that is, by this process's monotonic clock.
_busy_until = 0.0


@app.task(name=FAN_OUT_TASK, bind=True)
def fan_out_task(self: Task) -> None:
    """Fan out whatever is pending."""
    with patience(self.name):
        known = suspect_predecessors()
        if (self.request.delivery_info or {}).get("redelivered") and not known:
            # Its first worker died, perhaps of an event: what that one may have held is tried in groups.
            isolate_pending(time.monotonic() + LOOP_S)
        fan_out_pending(Linger() if may_linger() else None)


@app.task(name=FAN_OUT_ONE_TASK)
def fan_out_one_task(key: int, after: int | None = None) -> None:
    """Try one suspect, unless another attempt was made since the sweeper asked for this one.

    A message that comes again because its worker died of the event finds that so: the next attempt has its time to
    wait, and whoever is innocent goes first. `after`: the attempts until then; None: whatever they are.
    """
    with patience(FAN_OUT_ONE_TASK):
        suspect_predecessors()
        run_alone(key, after)


def fan_out_pending(linger: Linger | None = None) -> None:
    """Fan out pending events until none is left that nobody else holds; then for as long as `linger` is told of more.

    The flag is cleared before the first claim: whoever commits later finds it unset and asks anew.
    """
    deadline = time.monotonic() + LOOP_S
    counts = Counts()
    clear_flag()
    try:
        while run_batch(deadline, counts) or (linger is not None and linger.more(counts.tell)):
            counts.tell_old()
            if time.monotonic() > deadline:
                wake()
                break
    finally:
        counts.tell()


def run_batch(deadline: float, counts: Counts | None = None) -> bool:
    """Claim and fan out one batch in one transaction; returns whether there may be more to claim.

    A batch that fails is split at once: each of its events is tried alone. One that waited for too long for somebody's
    inboxes goes around those. What was published is left in `counts`, which its owner tells; None: it is told here.
    """
    rows: Sequence[Row] = ()
    limit = settings().claim_batch
    try:
        with db.transaction() as connection:
            if time.monotonic() < _busy_until:
                connection.execute(text(f"SET LOCAL lock_timeout = {BUSY_LOCK_TIMEOUT_MS}"))
            rows = connection.execute(fan_out.claim_batch(), {"limit": limit}).mappings().all()
            if not rows:
                return False
            delivery = deliver(connection, rows, careful=False)
    except Exception as error:
        # A cut one is split: the transaction for that fails where the database is away, and else one of them was it.
        if not rows or (is_away(error) and not is_cut(error)):
            raise
        claimed = [row["key"] for row in rows]
        _log_failed_batch(error, claimed, rows)
        if is_busy(error):
            _go_around(claimed)
        else:
            _split(claimed, deadline)
        return True
    after_commit(delivery, counts)
    return len(rows) == limit or delivery.released > 0


def _go_around(keys: list[int]) -> None:
    """Fan out those of these events whose inboxes nobody holds; the sweeper returns the others after a second.

    One by one each of those would wait for `LOCK_TIMEOUT_MS`, and the lane with it.
    """
    global _busy_until  # noqa: PLW0603 - one for each process
    _busy_until = time.monotonic() + BUSY_S
    with db.transaction() as connection:
        rows = connection.execute(fan_out.claim_these(), {"keys": keys}).mappings().all()
        delivery = deliver(connection, rows, careful=False, around=True) if rows else Delivery()
        connection.execute(fan_out.suspect_these(), {"keys": delivery.held})
    after_commit(delivery)


def _split(keys: list[int], deadline: float) -> None:
    with db.transaction() as connection:
        connection.execute(fan_out.suspect_these(), {"keys": keys})
    _run_each(keys, deadline)


def suspect_predecessors() -> bool:
    """Make a suspect of the event that the dead process was at whose place this one took; return whether there is one.

    Before anything else is done: what this process is at itself is noted in the same place.
    """
    told = at_work.predecessors()
    if told is None:
        return False
    database, key = told
    with db.transaction(database=database) as connection:
        named = connection.execute(fan_out.suspect_one(), {"key": key}).mappings().first()
    log().warning("fan_out.died_at", event_key=key, **({"trace_id": trace_of(named)} if named else {}))
    at_work.settle()
    return True


def isolate_pending(deadline: float) -> None:
    """Make suspects of the first pending events and try them in small groups, a batch's worth at most.

    A group that kills this process too is tried one by one, by the sweeper, as is what the deadline leaves.
    """
    left = settings().claim_batch
    while left > 0 and time.monotonic() < deadline:
        with db.transaction() as connection:
            keys = sorted(connection.scalars(fan_out.suspect_pending(), {"limit": min(GROUP, left)}))
        if not keys:
            return
        log().warning("fan_out.isolated", events=len(keys))
        _run_group(keys, deadline)
        left -= len(keys)


def _run_group(keys: list[int], deadline: float) -> None:
    """Try suspects together, the attempt of each counted by a commit of its own first; one by one if that fails."""
    with db.transaction() as connection:
        begun = sorted(connection.scalars(fan_out.begin_attempts(), {"keys": keys}))
    rows: Sequence[Row] = ()
    try:
        with db.transaction() as connection:
            rows = connection.execute(fan_out.claim_these(), {"keys": begun}).mappings().all()
            delivery = deliver(connection, rows, careful=True) if rows else Delivery()
    except Exception as error:
        _log_failed_batch(error, begun, rows)
        with db.transaction() as connection:
            connection.execute(fan_out.take_back_attempts(), {"keys": begun})
        _run_each(begun, deadline)
        return
    after_commit(delivery)


def _run_each(keys: list[int], deadline: float) -> None:
    for key in keys:
        if time.monotonic() > deadline:
            return
        run_alone(key)


def run_alone(key: int, after: int | None = None) -> None:
    """Try one suspect, counting the attempt by a commit of its own first: it outlives this process.

    After the last attempt the event is failed; one that is held, finished or exhausted is left as it is, as is one that
    has not just `after` attempts where that is told.
    """
    names = {"key": key, "most": settings().max_attempts, "after": after}
    with db.transaction() as connection:
        begun = connection.execute(fan_out.begin_attempt(), names).mappings().first()
    if begun is None:
        return
    began = time.monotonic()
    try:
        with db.transaction() as connection:
            delivery = _deliver_one(connection, key)
    except Exception as error:
        _judge({"event_key": key, "trace_id": trace_of(begun)}, begun["attempts"], error, time.monotonic() - began)
        return
    after_commit(delivery)


def _deliver_one(connection: Connection, key: int) -> Delivery:
    rows = connection.execute(fan_out.claim_one(), {"key": key, "state": "accepted"}).mappings().all()
    return deliver(connection, rows, careful=True) if rows else Delivery()


def _judge(names: dict[str, Any], attempt: int, error: Exception, seconds: float) -> None:
    key = names["event_key"]
    _log_failure("fan_out.event_failed", error, **names, attempt=attempt)
    with db.transaction() as connection:
        if is_blameless(error, seconds) and not _waits_longer(error, attempt):
            connection.execute(fan_out.take_back_attempts(), {"keys": [key]})
        elif attempt >= settings().max_attempts:
            reason = f"Its fan-out failed {attempt} times, at last with {type(error).__name__}."
            connection.execute(fan_out.fail(), {"key": key, "error": reason})
            metrics.FINISHED.add(1, "given_up")
            log().error("event.given_up", **names, attempts=attempt)


def _waits_longer(error: Exception, attempt: int) -> bool:
    """Tell whether an attempt counts though it may be blameless: as it was cut, and is not the last one.

    So what costs its connection each time stays out of the batches and waits, and nothing fails of a failover.
    """
    return is_cut(error) and attempt < settings().max_attempts


def _log_failed_batch(error: Exception, keys: Sequence[int], rows: Sequence[Row]) -> None:
    _log_failure("fan_out.batch_failed", error, events=len(keys), trace_ids=[trace_of(row) for row in rows])


def _log_failure(event_name: str, error: Exception, **ids: Any) -> None:
    # Never the message: a database's error quotes the row.
    kind, state = type(error).__name__, db.sqlstate_of(error)
    log().error(event_name, reason=kind, sqlstate=state, where=place_of(error), **ids)


def after_commit(delivery: Delivery, counts: Counts | None = None) -> None:
    """Tell what was committed. Whatever fails here is repaired: streams by the reconciler, tasks by the sweeper.

    How much was published is counted in `counts`; None: in a transaction of its own, now.
    """
    count(delivery)
    committed = time.time()
    for key in delivery.refused:
        log().warning("event.refused", event_key=key, trace_id=delivery.trace_ids[key])
    for key in delivery.large:
        send(PLAN_TASK, key, trace_id=delivery.trace_ids[key])
    if delivery.forwarded:
        send(FORWARD_TASK)
    for followed, _ in delivery.followed:
        followed.note("event.fanned_out", recipients=len(followed.keys))
    if not delivery.messages:
        return
    taken = publish(delivery.messages, [followed.as_order(committed) for followed, _ in delivery.followed])
    published = [delivery.owners[place] for place in taken]
    _tell_published(delivery, committed, Counter(published))
    mine = Counts() if counts is None else counts
    mine.add(published)
    if counts is None:
        mine.tell()


def _tell_published(delivery: Delivery, committed: float, counts: Counter[int]) -> None:
    """Tell the publishing of those events that are followed, and the spans of those that are traced."""
    for event, accepted_at in delivery.followed:
        ids: dict[str, str | int] = {"event_key": event.event_key, "type": event.type}
        event.note("event.published", messages=counts[event.event_key])
        traces.tell("carillon.fan_out", event.traceparent, accepted_at, committed, **ids)
        traces.tell("carillon.publish", event.traceparent, committed, time.time(), **ids)


def count(delivery: Delivery) -> None:
    """Count what was committed just now."""
    count_commits("urgent", delivery.done)
    metrics.FINISHED.add(len(delivery.done), "done")
    metrics.FINISHED.add(len(delivery.refused), "refused")
    metrics.NOTIFICATIONS.add(len(delivery.owners), "urgent")


class Counts:
    """How many messages of which events were published, and not yet told to the database."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._since = 0.0

    def add(self, owners: Iterable[int]) -> None:
        """Count one message of each of these events."""
        if not self._counts:
            self._since = time.monotonic()
        self._counts.update(owners)

    def tell_old(self) -> None:
        """Tell what has waited for `COUNTS_S`: one transaction for many batches."""
        if self._counts and time.monotonic() - self._since >= COUNTS_S:
            self.tell()

    def tell(self) -> None:
        """Tell everything; a database that is away is told nothing, for a count is no promise."""
        keys = sorted(self._counts)
        if keys:
            given = {"keys": keys, "counts": [self._counts[key] for key in keys]}
            self._counts.clear()
            with patience("count_published"), db.transaction() as connection:
                connection.execute(fan_out.count_published(), given)
