"""Every number that a process counts, by its name in the exposition: what it means, its unit, its labels.

Counting is adding to a cell in memory (0.3 to 1.3 µs); names, labels and text are the scraper's business
(`shared/exposition.py`). docs/metrics.md lists them for the reader, and a test compares.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter as TallyOf
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from shared.cells import CELLS_HERE
from shared.errors import StartError
from shared.logs import log
from shared.settings import settings

Kind = Literal["counter", "gauge", "latest", "histogram"]
#: Seconds are counted in whole microseconds.
PER_SECOND = 1_000_000
#: A human notices 100 ms; 5 s is the reconciler's promise, 60 s and more a backlog.
BOUNDS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metric:
    """One metric; each is known by its name in `ALL`."""

    ALL: ClassVar[dict[str, Metric]] = {}
    kind: Kind = "counter"
    #: What a cell is divided by in the exposition.
    scale = 1

    def __init__(self, name: str, help: str, *labels: str, known: Sequence[str] = ()) -> None:
        """`known`: values of the one label that are told from the start, so that a first count is seen as a growth."""
        assert name not in self.ALL
        self.name, self.help, self.labels = name, help, labels
        self.known = tuple((value,) for value in known) if labels else ((),)
        self._places: dict[tuple[str, ...], int] = {}
        self.ALL[name] = self

    def _place(self, values: tuple[str, ...]) -> int:
        place = self._places.get(values)
        if place is None:
            assert len(values) == len(self.labels)
            place = self._places[values] = CELLS_HERE.place((self.name, "", *values))
        return place


class Counter(Metric):
    """Only grows, over the ends of processes too."""

    def add(self, amount: int = 1, *values: str) -> None:
        """Count `amount` more under these labels' values."""
        CELLS_HERE.add(self._place(values), amount)

    def show(self, amount: int, *values: str) -> None:
        """Make this process's count `amount`, which is kept elsewhere and must not sink."""
        CELLS_HERE.values[self._place(values)] = amount


class Seconds(Counter):
    """A counter of time."""

    scale = PER_SECOND

    def spend(self, seconds: float, *values: str) -> None:
        """Count so much more time; a clock that went back counts none."""
        self.add(max(0, round(seconds * PER_SECOND)), *values)


class Gauge(Metric):
    """Is what it is now, summed over living processes."""

    kind = "gauge"

    def set(self, value: int, *values: str) -> None:
        """Say this process's part."""
        CELLS_HERE.values[self._place(values)] = value


class Latest(Metric):
    """A moment, as Unix time: the latest that any process saw."""

    kind = "latest"
    scale = PER_SECOND

    def now(self, *values: str) -> None:
        """It is now."""
        CELLS_HERE.values[self._place(values)] = time.time_ns() // 1_000


class Histogram(Metric):
    """How long something took, in buckets of `BOUNDS_S`."""

    kind = "histogram"

    def __init__(self, name: str, help: str, *labels: str) -> None:
        super().__init__(name, help, *labels)
        self._firsts: dict[tuple[str, ...], list[int]] = {}

    def observe(self, durations: Sequence[float], *values: str) -> None:
        """Count durations, in seconds; clocks of two hosts may differ, so one below nothing is nothing."""
        cells = self._firsts.get(values)
        if cells is None:
            parts = [*(str(number) for number in range(len(BOUNDS_S) + 1)), "sum"]
            cells = self._firsts[values] = [CELLS_HERE.place((self.name, part, *values)) for part in parts]
        for bucket, amount in TallyOf(bisect_left(BOUNDS_S, each) for each in durations).items():
            CELLS_HERE.add(cells[bucket], amount)
        CELLS_HERE.add(cells[-1], round(PER_SECOND * sum(each for each in durations if each > 0)))


EVENTS = Counter(
    "carillon_events_total",
    "Events that producers posted and that are durable",
    "outcome",
    known=("accepted", "duplicate"),
)
REFUSED = Counter("carillon_events_refused_total", "Postings refused, none of their events stored", "reason")
COMMIT = Histogram(
    "carillon_event_to_commit_seconds",
    "From an event's acceptance to the commit of its notifications: each event, each chunk of a large one",
    "lane",
)
TYPE_SECONDS = Seconds("carillon_type_to_commit_seconds_total", "The same, summed for each event type", "type")
TYPE_COMMITS = Counter("carillon_type_commits_total", "Commits that the sum is of", "type")
FINISHED = Counter(
    "carillon_fan_outs_total",
    "Events whose fan-out ended, or chunks of large ones",
    "outcome",
    known=("done", "refused", "given_up"),
)
NOTIFICATIONS = Counter(
    "carillon_notifications_total", "Notifications written (fan-out rows)", "lane", known=("urgent", "fan_out")
)
PUBLISHED = Counter("carillon_published_messages_total", "Messages that Redis took for the streams")
UNPUBLISHED = Counter(
    "carillon_unpublished_messages_total", "Messages dropped while Redis was away: the reconciler tells them"
)
TASKS = Counter("carillon_tasks_total", "Tasks and jobs that ended", "task", "outcome")
TASK_SECONDS = Seconds("carillon_task_seconds_total", "Time in tasks and jobs", "task")
TASK_LAST = Latest("carillon_task_last_success_timestamp_seconds", "When a task or job last ended well", "task")
DELETED = Counter("carillon_deleted_total", "Notifications that were expired, capped or withdrawn", "reason")
OUTBOX_REFUSED = Counter("carillon_outbox_refused_total", "Events of outboxes that were set aside", "outbox")
OUTBOX_LOOKED = Latest(
    "carillon_outbox_last_look_timestamp_seconds", "When a relay last looked into an outbox", "outbox"
)

SOCKET = Histogram(
    "carillon_commit_to_socket_seconds",
    "From a fan-out's commit to the writing of its frames to the streams' sockets (sampled)",
)
STREAMS = Gauge("carillon_streams", "Open streams")
INBOXES = Gauge("carillon_inboxes_followed", "Inboxes that open streams follow")
STREAM_BEGINNINGS = Counter(
    "carillon_streams_begun_total", "Streams begun: without a cursor, or by replay", "kind", known=("fresh", "replay")
)
RESETS = Counter("carillon_resets_total", "Streams told to fetch their page again: a foreign cursor, or too far back")
STREAM_ENDS = Counter(
    "carillon_streams_ended_by_server_total", "Streams that the server ended with this goodbye", "reason"
)
STREAMS_REFUSED = Counter("carillon_streams_refused_total", "Streams over a limit: of the recipient or of the process")
SLOW = Counter("carillon_slow_readers_total", "Readers that took no bytes for too long and were closed")
DELIVERED = Counter("carillon_frames_total", "Live frames written to streams")
ODD_FRAMES = Counter(
    "carillon_odd_frames_total",
    "Frames that came late, early (held), for nobody who may be told now, or unreadable",
    "kind",
)
REPAIRED = Counter(
    "carillon_gaps_repaired_total",
    "Gaps that were read again: holes between frames, and what only the reconciler's round found",
    "found_by",
    known=("hole", "round"),
)
UNTELLABLE = Counter(
    "carillon_untellable_rows_total", "Rows left out of pages, changes and replays: nothing could be told of them"
)
ROUNDS = Counter("carillon_reconciler_rounds_total", "Rounds over all open streams")


def count_events(statuses: Iterable[str]) -> None:
    """Count what became of the events of one posting."""
    for outcome, amount in TallyOf(statuses).items():
        EVENTS.add(amount, outcome)


def begin(part: str) -> None:
    """Count into a file of this process's own from now on, so that whoever is scraped knows of it.

    A folder that cannot be written is logged: metrics never stop the product, and then each API tells of itself alone.
    """
    try:
        CELLS_HERE.open(settings().metrics_folder, part)
    except (OSError, StartError) as error:
        log().warning("metrics.unshared", folder=str(settings().metrics_folder), reason=type(error).__name__)


def end() -> None:
    """Let go of this process's file: its counters stay, its gauges go."""
    CELLS_HERE.close()
