"""A kept PostgreSQL with inboxes as fan-outs leave them, a database for each number of rows: made once, used often.

`python -m bench.stored FOLDER` makes what is missing, without flushing to disk; measurements flush as a real one does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from shared import migration
from shared.embedded import EmbeddedPostgres
from shared.notification_id import notification_id_sql

Session = psycopg.Connection[Any]
#: Notifications in each inbox: the product's own cap.
EACH = 100
TENANTS = tuple(f"t{number}" for number in range(50))
#: Rows in one of the databases that are measured.
SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
#: PostgreSQL's own cache unless told otherwise: its default.
CACHE_MIB = 128
#: The mark, on the database, that it was filled to the end.
_COMMENT = "filled"


class CachedPostgres(EmbeddedPostgres):
    """A PostgreSQL whose own cache has `cache_mib` MiB."""

    cache_mib = CACHE_MIB

    def _arguments(self) -> list[str]:
        return [*super()._arguments(), "-c", f"shared_buffers={self.cache_mib}MB"]


def database_of(rows: int) -> str:
    """Return the name of the database with so many rows."""
    return f"rows_{rows}"


@contextmanager
def server(folder: Path, *, flushes: bool = True, cache_mib: int = CACHE_MIB) -> Iterator[EmbeddedPostgres]:
    """Run the folder's PostgreSQL with a cache of its own of so many MiB."""
    postgres = CachedPostgres(folder / "postgres", fast=not flushes)
    postgres.cache_mib = cache_mib
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


def make(folder: Path, sizes: tuple[int, ...] = SIZES) -> None:
    """Make those of the databases that are missing, and bring those that are there to this release's schema.

    One that was not filled to the end is made anew.
    """
    with server(folder, flushes=False) as postgres:
        for rows in sizes:
            began = time.monotonic()
            if not _is_filled(postgres, rows):
                _make_one(postgres, rows)
                print(f"{rows:,} rows after {time.monotonic() - began:.0f} s", flush=True)
            else:
                migration.migrate(postgres.url(database_of(rows)), postgres.application)


def _is_filled(postgres: EmbeddedPostgres, rows: int) -> bool:
    question = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    with psycopg.connect(postgres.url("postgres")) as session:
        row = session.execute(question, (database_of(rows),)).fetchone()
    return row is not None and row[0] == _COMMENT


def _make_one(postgres: EmbeddedPostgres, rows: int) -> None:
    name = sql.Identifier(database_of(rows))
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))
        session.execute(sql.SQL("CREATE DATABASE {}").format(name))
    url = postgres.url(database_of(rows))
    migration.migrate(url, postgres.application)
    with psycopg.connect(url, autocommit=True) as session:
        fill(session, inboxes=rows // EACH, each=EACH)
        session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(_COMMENT)))


def fill(session: Session, inboxes: int, each: int, tenants: Sequence[str] = TENANTS) -> None:
    """Store `each` notifications in each of new inboxes, one of every inbox after the other, the older half read.

    Recipient `r<n>` (from 1) belongs to the tenant in the place n modulo their number. The rows of one inbox lie in as
    many places, and the indexes are grown row by row, as fan-outs leave both.
    """
    session.execute("SET statement_timeout = 0")
    session.execute("INSERT INTO tenants (id) SELECT unnest(%s::text[])", (list(tenants),))
    unread = each - each // 2
    session.execute(_INBOXES, (list(tenants), len(tenants), each, each, unread, unread, each, inboxes))
    for ordinal in range(1, each + 1):
        read = ordinal <= each // 2
        given = {"ordinal": ordinal, "ago": each - ordinal, "read": read, "tenants": list(tenants)}
        session.execute(_NOTIFICATIONS, given)
    session.execute("VACUUM ANALYZE")
    session.execute("CHECKPOINT")


_INBOXES = """
    INSERT INTO inboxes (tenant, recipient, seq, created, unread, unseen, total)
    SELECT (%s::text[])[1 + g %% %s], 'r' || g, %s, %s, %s, %s, %s FROM generate_series(1, %s) g"""
_ID = notification_id_sql("lpad(to_hex((extract(epoch FROM t.at) * 1000)::bigint), 12, '0')", "t.event", "i.key")
_NOTIFICATIONS = f"""
    INSERT INTO notifications (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority, title, message,
        action_url, metadata, created_at, seen_at, read_at)
    SELECT {_ID}, i.key, i.tenant, t.event, t.event, t.event, t.event,
           (ARRAY['grade.posted', 'ticket.assigned', 'certificate.issued'])[1 + t.event %% 3], t.event %% 4,
           'Grade Posted', 'Your work in "Linear Algebra" was graded.', '/courses/' || i.key,
           jsonb_build_object('courseId', (i.key %% 100)::text, 'ticketId', t.event::text),
           t.at, CASE WHEN %(read)s THEN now() END, CASE WHEN %(read)s THEN now() END
    FROM inboxes i, (SELECT %(ordinal)s::bigint AS event, now() - %(ago)s * interval '1 minute' AS at) t
    WHERE i.tenant = ANY (%(tenants)s)
    ORDER BY i.key"""


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="rows of the largest database")
    chosen = parser.parse_args()
    make(chosen.folder, tuple(rows for rows in SIZES if rows <= chosen.most))


if __name__ == "__main__":
    main()
