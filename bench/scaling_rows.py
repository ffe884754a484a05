"""Cost over the rows of a database, 10^5 to 10^7: what an inbox reads, and what fan-out and jobs write.

The statements are the product's own, prepared, under row-level security as its roles, on random inboxes; the times are
the client's, beside the server. Everything lies in the system's memory (it is read once before), and PostgreSQL's own
cache is 128 MiB; commits are flushed. Then what a page and a chunk cost where that cache holds everything, as long as a
quarter of this machine's memory does.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import TextClause, text

from bench.series import Growth, Series, point
from bench.stored import CACHE_MIB, EACH, SIZES, TENANTS, database_of, make, server
from shared import chunks, deletions, fan_out, inbox
from shared.embedded import EmbeddedPostgres
from shared.inbox_filter import Filter
from shared.notification_id import time_prefix
from shared.roles import APP, EVERY_TENANT, WORKER

Session = psycopg.Connection[Any]
#: Reads of each kind that are timed in each database, and those before that bring plans and pages into memory.
READS, FIRST_READS = 150, 20
HEADS = 500
PAGE = "page of 20"
#: Inboxes that a chunk writes to: the smallest database has twice as many. They are those of the lower half of keys;
#: what reads goes to the upper half.
CHUNK, CHUNKS = 500, 9
#: Beyond every event that `bench.stored` made.
EVENT = 1_000_000
#: What PostgreSQL's manual advises for its own cache, of the machine's memory: here all databases fit into it.
CACHE_SHARE = 0.25
CACHED = ", all in PostgreSQL's cache"
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")

#: Returns a statement's parameters for inboxes of these numbers.
Given = Callable[[list[int]], dict[str, Any]]
#: The plan for any values, which a connection uses after ten times, and the one for these values until then; behind
#: PgBouncer, where nothing is prepared, always.
PLANS = {"force_generic_plan": "", "force_custom_plan": ", planned anew"}
WRITES = (f"chunk of {CHUNK} written", f"{CHUNK} expired", f"{CHUNK} tombstones purged")


class Database:
    """One database of `bench.stored`, and what is timed in it."""

    def __init__(self, session: Session, rows: int) -> None:
        self._session, self._inboxes = session, rows // EACH
        self._random = random.Random(rows)
        self._chunk = 0
        session.row_factory = dict_row

    def _execute(self, statement: TextClause, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        query = _PARAMETER.sub(r"%(\1)s", statement.text.replace("%", "%%"))
        with self._session.cursor() as cursor:
            cursor.execute(query.encode(), values, prepare=True)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def _as(self, role: str, tenants: list[str]) -> Iterator[None]:
        with self._session.transaction():
            self._session.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            self._session.execute("SELECT set_config('app.tenants', %s, true)", ("{" + ",".join(tenants) + "}",))
            yield

    def plan(self, mode: str) -> None:
        """Have all statements planned so from now on."""
        self._session.execute(f"SET plan_cache_mode = {mode}")

    def read(self, statement: TextClause, given: Given, many: int) -> float:
        """Return the milliseconds of a read of so many random inboxes; `given` are their numbers' parameters."""
        numbers = [self._random.randint(self._inboxes // 2 + 1, self._inboxes) for _ in range(many)]
        with self._as(APP, sorted({_tenant(number) for number in numbers})):
            values = given(numbers)
            began = time.perf_counter()
            self._execute(statement, values)
            return 1e3 * (time.perf_counter() - began)

    def pages(self, statement: TextClause, given: Given) -> float:
        """Return how many pages (8 KiB) of tables and indexes a read of a random inbox looks at."""
        number = self._random.randint(self._inboxes // 2 + 1, self._inboxes)
        with self._as(APP, [_tenant(number)]):
            explained = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}")
            (row,) = self._execute(explained, given([number]))
        plan = row["QUERY PLAN"][0]["Plan"]
        return float(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    def fill_cache(self) -> None:
        """Read the tables and the indexes of inboxes into PostgreSQL's cache, which reading from end to end spares."""
        with self._session.transaction():
            for method in ("seqscan", "indexscan", "indexonlyscan"):
                self._session.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(f"enable_{method}")))
            for question in _ALL:
                self._session.execute(question)

    def write(self) -> tuple[float, float, float]:
        """Write a chunk of notifications that have expired, expire them, purge them: milliseconds of each transaction.

        Afterwards there are as many rows as before. Each begins at a checkpoint, and so writes whole into the log each
        page that it changes: of the smallest database's the first one alone did, for all chunks are in its one place.
        """
        self._session.execute("CHECKPOINT")
        keys = self._next_keys()
        return self._timed(lambda: self._fan_out(keys)), self._timed(self._expire), self._timed(self._purge)

    def _next_keys(self) -> list[int]:
        start = self._random.randrange(self._inboxes // 2 // CHUNK) * CHUNK
        self._chunk += 1
        return list(range(start + 1, start + CHUNK + 1))

    def _timed(self, work: Callable[[], int]) -> float:
        began = time.perf_counter()
        with self._as(WORKER, [EVERY_TENANT]):
            done = work()
        took = 1e3 * (time.perf_counter() - began)
        assert done == CHUNK, done
        return took

    def _fan_out(self, keys: list[int]) -> int:
        now = datetime.now(UTC)
        self._execute(fan_out.lock_inboxes(), {"keys": keys})
        given = {
            "keys": keys, "prefix": time_prefix(now), "event_key": EVENT + self._chunk, "type": "system.announcement",
            "priority": 1, "title": "Exams", "message": "The exams begin on Monday at nine in the great hall.",
            "action_url": "/exams", "metadata": '{"examId":"1"}', "expires_at": now - timedelta(seconds=1),
        }  # fmt: skip
        return int(self._execute(chunks.multiply(), given)[0]["written"])

    def _expire(self) -> int:
        rows = self._execute(deletions.expired(), {"now": None, "limit": 2_000})
        self._lock(rows)
        given = {"ids": [row["id"] for row in rows], "reason": "expired", "now": datetime(2020, 1, 1, tzinfo=UTC)}
        return sum(len(row["ids"]) for row in self._execute(deletions.delete_these(), given))

    def _purge(self) -> int:
        rows = self._execute(deletions.old_tombstones(), {"now": None, "days": 7, "limit": 2_000})
        self._lock(rows)
        return int(self._execute(deletions.purge_these(), {"ids": [row["id"] for row in rows]})[0]["count"])

    def _lock(self, rows: list[dict[str, Any]]) -> None:
        self._execute(fan_out.lock_inboxes(), {"keys": sorted(row["key"] for row in rows)})

    def size(self) -> float:
        """Return the MiB of notifications and inboxes with their indexes."""
        question = "SELECT sum(pg_total_relation_size(r)) AS bytes FROM unnest('{notifications,inboxes}'::regclass[]) r"
        row = self._session.execute(question).fetchone()
        assert row is not None
        return float(row["bytes"]) / 2**20

    def whole(self) -> float:
        """Return the MiB of the whole database."""
        row = self._session.execute("SELECT pg_database_size(current_database()) AS bytes").fetchone()
        assert row is not None
        return float(row["bytes"]) / 2**20


_ALL = (
    "SELECT count(title) FROM notifications WHERE key > 0 AND ordinal > 0",
    "SELECT count(title) FROM notifications WHERE key > 0 AND seq > 0",
    "SELECT count(seq) FROM inboxes WHERE key > 0",
    "SELECT count(seq) FROM inboxes WHERE tenant > ''",
)


def _tenant(number: int) -> str:
    return TENANTS[number % len(TENANTS)]


def _one(numbers: list[int]) -> dict[str, Any]:
    return {"tenant": _tenant(numbers[0]), "recipient": f"r{numbers[0]}"}


def _many(numbers: list[int]) -> dict[str, Any]:
    return {"tenants": [_tenant(number) for number in numbers], "recipients": [f"r{number}" for number in numbers]}


def _followed(numbers: list[int]) -> dict[str, Any]:
    """Return what the reconciler asks for streams that have everything; an inbox's key is its number here."""
    return {**_many(numbers), "epochs": [1] * len(numbers), "seqs": [EACH] * len(numbers), "keys": numbers}


def reads() -> dict[str, tuple[TextClause, Given, int]]:
    """Return each read: its statement, its parameters, and of how many inboxes it is."""
    page, values = inbox.read_page(Filter())
    shown = {"before": None, "limit": 20, **values}
    after = {"epochs": [1], "seqs": [EACH - 10], "max_changes": 500, "max_rows": inbox.MAX_REPLAY_ROWS}
    return {
        PAGE: (page, lambda numbers: {**_one(numbers), **shown}, 1),
        "unread count": (inbox.read_head(), _one, 1),
        "changes after a cursor (10)": (inbox.read_changes(), lambda numbers: {**_many(numbers), **after}, 1),
        f"heads of {HEADS} inboxes": (inbox.read_heads(), _many, HEADS),
        f"reconciling {HEADS} inboxes, none behind": (inbox.read_behind(), _followed, HEADS),
    }


def measure_all(databases: list[Database], sizes: Sequence[int]) -> list[Series]:
    """Return everything that is measured; each database in turn, so that what else the machine does is in all."""
    found = []
    for name, (statement, given, many) in reads().items():
        for mode, words in PLANS.items():
            rounds = _read(databases, mode, lambda each: each.read(statement, given, many))  # noqa: B023
            found.append(_series(name + words, "ms", "constant", sizes, rounds))
    page, given, _ = reads()[PAGE]
    looked_at = [[each.pages(page, given) for each in databases] for _ in range(FIRST_READS)]
    found.append(_series(f"{PAGE}, pages of 8 KiB", "number", "constant", sizes, looked_at))
    found += _written(databases, sizes)
    found.append(_series("stored, index included", "MiB", "linear", sizes, [[each.size() for each in databases]]))
    return found


def measure_cached(databases: list[Database], sizes: Sequence[int]) -> list[Series]:
    """Return what a page and a chunk cost where PostgreSQL's own cache holds all databases."""
    for each in databases:
        each.fill_cache()
    page, given, many = reads()[PAGE]
    rounds = _read(databases, next(iter(PLANS)), lambda each: each.read(page, given, many))
    return [_series(PAGE + CACHED, "ms", "constant", sizes, rounds), *_written(databases, sizes, WRITES[:1], CACHED)]


def _read(databases: list[Database], mode: str, read: Callable[[Database], float]) -> list[list[float]]:
    for each in databases:
        each.plan(mode)
    return [[read(each) for each in databases] for _ in range(FIRST_READS + READS)][FIRST_READS:]


def _written(
    databases: list[Database], sizes: Sequence[int], names: Sequence[str] = WRITES, words: str = ""
) -> list[Series]:
    written = [[each.write() for each in databases] for _ in range(CHUNKS)]
    rounds = [[[each[place] for each in values] for values in written] for place in range(len(names))]
    return [_series(name + words, "ms", "constant", sizes, values) for name, values in zip(names, rounds, strict=True)]


def _series(name: str, unit: str, growth: Growth, sizes: Sequence[int], rounds: list[list[float]]) -> Series:
    """Return the series of rounds, each of which has a value for each size."""
    values = zip(*rounds, strict=True)
    return Series(name, unit, growth, tuple(point(size, taken) for size, taken in zip(sizes, values, strict=True)))


def warm(postgres: EmbeddedPostgres, rows: int) -> None:
    """Bring a database's files into the system's memory."""
    with psycopg.connect(postgres.url("postgres")) as session:
        question = "SELECT oid FROM pg_database WHERE datname = %s"
        row = session.execute(question, (database_of(rows),)).fetchone()
    assert row is not None
    for file in (postgres.cluster / "base" / str(row[0])).iterdir():
        with file.open("rb") as content:
            while content.read(2**24):
                pass


@contextmanager
def opened(folder: Path, sizes: Sequence[int], cache_mib: int = CACHE_MIB) -> Iterator[list[Database]]:
    """Run the folder's server with so much cache, its databases' files in the system's memory, and give them."""
    with server(folder, cache_mib=cache_mib) as postgres, ExitStack() as sessions:
        databases = []
        for rows in sizes:
            warm(postgres, rows)
            session = psycopg.connect(postgres.url(database_of(rows)), autocommit=True)
            databases.append(Database(sessions.enter_context(session), rows))
        yield databases


def measure(folder: Path, sizes: tuple[int, ...] = SIZES) -> list[Series]:
    """Measure the databases in `folder`; those that are missing are made first."""
    make(folder, sizes)
    with opened(folder, sizes) as databases:
        found = measure_all(databases, sizes)
        needed = sum(each.whole() for each in databases)
    cache = int(CACHE_SHARE * psutil.virtual_memory().total / 2**20)
    if needed > cache:
        print(f"No rows of a cache that holds everything: that takes {needed:.0f} MiB, and it has {cache}.", flush=True)
        return found
    with opened(folder, sizes, cache) as databases:
        return found + measure_cached(databases, sizes)
