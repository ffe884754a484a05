"""The relay: empties the outboxes of producers with databases of their own (`python -m workers.relay`).

As many of these processes may run as one likes: a transaction's advisory lock in the producer's database lets one at a
time work there, and a second one takes over as soon as the first one's transaction ends, however it ends.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import orjson
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from shared import cloudevent, db, events, metrics, outbox, strict_json
from shared.catalog import catalog
from shared.cloudevent import Event
from shared.databases import database_of, working_in
from shared.errors import BodyTooLarge, CarillonError, Conflict, FieldError, InvalidInput, StartError
from shared.following import note_accepted, trace_id_of
from shared.logs import configure_logs, log, place_of
from shared.outbox_setting import Outbox
from shared.settings import settings
from shared.statements import run
from workers.app import wake
from workers.prepare import Row, reason_of

#: Between two tries after a failure, doubled each time: a producer's database that comes back is served within this.
BACK_OFF_S, MAX_BACK_OFF_S = 0.5, 15.0
#: Relays that failed together do not come back at one moment.
JITTER = 0.25
#: After a look that found nothing the relay rests this many times as long as the look took: it never costs a producer's
#: database more than a tenth of a core, however many dead rows a transaction that is open for long makes it pass over.
REST = 9
#: A batch and the answer of a database that is away both end sooner; then the process may be ended anywhere.
STOP_S = 8.0


@dataclass(slots=True)
class Taken:
    """What became of the rows that one transaction took, by their positions."""

    stored: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    #: The databases that have new events.
    homes: set[str] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        """Whether there may be more to take."""
        return len(self.stored) + len(self.refused) == outbox.BATCH


#: A row's position and the event that it spells.
_Read = tuple[int, Event]


def relay_some(name: str, engine: Engine, between: Callable[[], None] = lambda: None) -> Taken:
    """Take one batch of an outbox: store its events, commit, then delete its rows and commit.

    Nothing is taken while another relay works on the outbox. `between` is called between the two commits: who is killed
    there leaves rows behind that the next one finds stored.
    """
    chosen = outbox.named(name)
    taken = Taken()
    with outbox.transaction(engine) as theirs:
        if not theirs.scalar(outbox.take_turn(), {"schema": chosen.schema}):
            return taken
        given = {"limit": outbox.BATCH, "most": settings().event_max_bytes}
        rows = theirs.execute(outbox.take(chosen.schema), given).mappings().all()
        if not rows:
            return taken
        _store(_read(chosen, rows, taken), taken)
        between()
        if taken.stored:
            theirs.execute(outbox.remove(chosen.schema), {"positions": taken.stored})
        if taken.refused:
            aside = {"positions": list(taken.refused), "reasons": list(taken.refused.values())}
            theirs.execute(outbox.set_aside(chosen.schema), aside)
    _tell(name, taken)
    return taken


def _tell(name: str, taken: Taken) -> None:
    for home in sorted(taken.homes):
        with working_in(home):
            wake()
    if taken.stored:
        log().info("outbox.relayed", outbox=name, events=len(taken.stored))
    if taken.refused:
        metrics.OUTBOX_REFUSED.add(len(taken.refused), name)
    for position in taken.refused:
        log().error("outbox.refused", outbox=name, position=position)


def _read(chosen: Outbox, rows: Sequence[Row], taken: Taken) -> list[_Read]:
    """Return the rows that are events; the others are refused."""
    found = []
    for row in rows:
        try:
            found.append((row["position"], _event_of(chosen, row)))
        except CarillonError as refused:
            taken.refused[row["position"]] = reason_of(refused)
    return found


def _event_of(chosen: Outbox, row: Row) -> Event:
    """Return the event; one without a time happened when it was written."""
    most = settings().event_max_bytes
    too_large = BodyTooLarge(f"The event is larger than {most} bytes.")
    if row["event"] is None:
        raise too_large
    value = strict_json.parse(row["event"])
    if not isinstance(value, dict):
        raise InvalidInput("The event must be a JSON object.")
    event = cloudevent.read(value)
    if len(orjson.dumps(value)) > most:
        raise too_large
    if not outbox.may_post_for(chosen, event.tenant):
        wrong = FieldError("tenant", "is none that this outbox may post for")
        raise InvalidInput("The event is not valid.", errors=(wrong,))
    return event if event.occurred_at else replace(event, occurred_at=row["written_at"])


def _store(read: Sequence[_Read], taken: Taken) -> None:
    """Store the events, each database's in transactions of their own, committed at the end."""
    by_home: dict[str, list[_Read]] = defaultdict(list)
    for position, event in read:
        by_home[database_of(event.tenant)].append((position, event))
    for home, some in by_home.items():
        _store_at(home, some, taken)


def _store_at(home: str, some: Sequence[_Read], taken: Taken) -> None:
    """Store what can be; whatever makes the database refuse the whole is looked for by halves.

    A database that is away raises: then nothing is deleted from the outbox.
    """
    try:
        left = _accept(some, taken)
    except DBAPIError as error:
        if db.is_transient(error):
            raise
        if len(some) > 1:
            half = len(some) // 2
            _store_at(home, some[:half], taken)
            _store_at(home, some[half:], taken)
            return
        position, event = some[0]
        ids = {"position": position, "trace_id": trace_id_of(*event.key, event.traceparent)}
        log().error("outbox.unstorable", **ids, sqlstate=db.sqlstate_of(error), where=place_of(error))
        taken.refused[position] = "The event cannot be stored."
        return
    if left:
        taken.stored.extend(position for position, _ in left)
        taken.homes.add(home)


def _accept(some: Sequence[_Read], taken: Taken) -> Sequence[_Read]:
    """Accept these events in one transaction, without those that it names as wrong; return which are stored."""
    left, began = list(some), time.time()
    while left:
        try:
            posting = events.posting_of([event for _, event in left], is_batch=True)
            with db.transaction(*posting.tenants) as ours:
                statuses = run(ours, events.accept(posting, registers=False))
            metrics.count_events(statuses)
            note_accepted(posting.events, statuses, began)
            break
        except (InvalidInput, Conflict) as refused:
            left = _without_refused(left, refused, taken)
    return left


def _without_refused(left: Sequence[_Read], refused: CarillonError, taken: Taken) -> list[_Read]:
    """Set aside the events that the posting's refusal names, and return the others."""
    wrong = {error.index: error for error in refused.errors}
    if not wrong:
        raise refused
    for place, error in wrong.items():
        if place is not None:
            taken.refused[left[place][0]] = f"{refused.detail} {error.field} {error.message}."
    return [each for place, each in enumerate(left) if place not in wrong]


# --- the process ---


class Relay:
    """Empties one outbox, again and again, until it is told to stop."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        self.name = name
        self._stop = stop
        self._back_off = BACK_OFF_S
        self._engine = outbox.engine_of(outbox.named(name))

    def run(self) -> None:
        """Relay until told to stop. Whatever fails is tried again: a producer's database may be away for days."""
        # A counter that begins with its first count has no increase that an alert could see.
        metrics.OUTBOX_REFUSED.add(0, self.name)
        while not self._stop.is_set():
            self._stop.wait(self._look())
        self._engine.dispose()

    def _look(self) -> float:
        """Take one batch; return how many seconds to wait before the next."""
        began = time.monotonic()
        try:
            taken = relay_some(self.name, self._engine)
        except Exception as error:
            return self._failed(error)
        self._back_off = BACK_OFF_S
        metrics.OUTBOX_LOOKED.now(self.name)
        if taken.is_full:
            return 0.0
        return max(settings().outbox_poll_seconds, REST * (time.monotonic() - began))

    def _failed(self, error: Exception) -> float:
        # Never the message: a database's error quotes the row.
        kind, state = type(error).__name__, db.sqlstate_of(error)
        away = db.is_transient(error)
        event = "outbox.away" if away else "outbox.failed"
        level = log().warning if away else log().error
        level(event, outbox=self.name, reason=kind, sqlstate=state, where=place_of(error))
        wait = self._back_off * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
        self._back_off = min(2 * self._back_off, MAX_BACK_OFF_S)
        return wait


def start(stop: threading.Event) -> list[threading.Thread]:
    """Start a thread for each outbox of the settings.

    Raises `StartError` where there is none, or one that will never do as it is.
    """
    chosen = settings()
    if not chosen.outboxes:
        raise StartError("There is no outbox to empty: set CARILLON_OUTBOXES.")
    for name, reason in outbox.require_all_usable(chosen).items():
        log().warning("outbox.away", outbox=name, reason=reason)
    threads = [threading.Thread(target=Relay(name, stop).run, name=name, daemon=True) for name in chosen.outboxes]
    for thread in threads:
        thread.start()
    return threads


def main() -> None:
    """Empty all outboxes until SIGTERM or SIGINT; exits 1 with one sentence where it cannot start."""
    try:
        configure_logs("relay")
        db.require_bound_login("worker")
        catalog()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        metrics.begin("relay")
        threads = start(stop)
    except CarillonError as refused:
        sys.exit(refused.detail)
    log().info("relay.started", outboxes=len(threads))
    stop.wait()
    deadline = time.monotonic() + STOP_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    metrics.end()
    log().info("relay.stopped")


if __name__ == "__main__":
    main()
