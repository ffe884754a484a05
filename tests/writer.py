"""Makes changes of inboxes as a worker does: lock, number, insert, commit, publish (or lose that)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType
from uuid import UUID, uuid4

import psycopg
import redis
from psycopg.rows import dict_row
from sqlalchemy import create_engine

from shared.cursor import Cursor
from shared.db import sqlalchemy_url
from shared.directory import delete_recipient
from shared.frames import Change, Counters, DeletedReason, channel_of, created, deleted, dumps, live, shared_rest
from shared.statements import run
from shared.wake import chunk_channel

TENANT = "north"
TYPE = "certificate.issued"
EVENT_KEY = 1


class Writer:
    """One worker. Every method returns the frame of its change; `lose=True` commits it and publishes nothing."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._database: psycopg.Connection[dict[str, object]] = psycopg.connect(database_url, row_factory=dict_row)
        self._redis = redis.Redis.from_url(redis_url)
        self._url = database_url
        with self._database.transaction():
            self._database.execute("INSERT INTO tenants (id) VALUES (%s) ON CONFLICT DO NOTHING", [TENANT])

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._redis.close()

    def register(self, *recipients: str) -> None:
        """Make the recipients' inboxes."""
        statement = "INSERT INTO inboxes (tenant, recipient) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        with self._database.transaction(), self._database.cursor() as cursor:
            cursor.executemany(statement, [(TENANT, recipient) for recipient in recipients])

    def create(self, recipient: str, title: str = "Hello", *, lose: bool = False) -> bytes:
        """Create one notification."""
        with self._database.transaction():
            _, cursor, counters, personal, rest = self._insert(recipient, title)
        frame = created(cursor, personal, dumps(TENANT), counters, rest)
        return self._publish(recipient, frame, lose)

    def create_chunk(self, recipients: Iterable[str], title: str = "Hello all") -> bytes:
        """Create a notification for each, and publish them as the chunk of a large audience."""
        lines, rest, epoch = [], b"", 0
        with self._database.transaction():
            for recipient in recipients:
                key, cursor, counters, personal, rest = self._insert(recipient, title)
                epoch = cursor.epoch
                lines.append(f"{key} {cursor.seq} {personal} {counters.unread} {counters.unseen}".encode())
        payload = b"\n".join([f"shared {epoch}".encode(), rest[:-2], *lines])
        self._redis.publish(chunk_channel(0), payload)
        return payload

    def read(self, recipient: str, id: str, *, lose: bool = False) -> bytes:
        """Mark an unread notification as read."""
        now = datetime.now(UTC)
        with self._database.transaction():
            _, cursor, counters = self._advance(recipient, unread=-1, unseen=-1)
            self._database.execute(
                "UPDATE notifications SET read_at = %s, seen_at = %s, seq = %s WHERE id = %s",
                [now, now, cursor.seq, id],
            )
        told = {"notificationId": id, "readAt": now, "seenAt": now, "archivedAt": None}
        return self._publish(recipient, live(Change.READ, cursor, counters, **told), lose)

    def delete(self, recipient: str, id: str, *, lose: bool = False) -> bytes:
        """Delete an unread notification."""
        with self._database.transaction():
            _, cursor, counters = self._advance(recipient, unread=-1, unseen=-1, total=-1)
            self._database.execute(
                "UPDATE notifications SET deleted_at = now(), seq = %s WHERE id = %s", [cursor.seq, id]
            )
        return self._publish(recipient, deleted(cursor, counters, [id], DeletedReason.USER), lose)

    def delete_recipient(self, recipient: str) -> None:
        """Remove the person's data, by the product's own program; nothing is published for it."""
        key = "SELECT key, tenant, recipient FROM inboxes WHERE tenant = %s AND recipient = %s"
        register = f"INSERT INTO recipients (key, tenant, id) {key} ON CONFLICT DO NOTHING"
        with self._database.transaction():
            self._database.execute(register.encode(), [TENANT, recipient])
        engine = create_engine(sqlalchemy_url(self._url))
        with engine.begin() as connection:
            run(connection, delete_recipient(TENANT, recipient))
        engine.dispose()

    def publish(self, recipient: str, frame: bytes) -> None:
        """Publish a frame (again)."""
        self._redis.publish(channel_of(TENANT, recipient), frame)

    def set_epoch(self, epoch: int) -> None:
        """Restart the numbering, as after a restored backup."""
        with self._database.transaction():
            self._database.execute("UPDATE deployment SET epoch = %s", [epoch])

    def _publish(self, recipient: str, frame: bytes, lose: bool) -> bytes:
        if not lose:
            self.publish(recipient, frame)
        return frame

    def _advance(
        self, recipient: str, unread: int = 0, unseen: int = 0, total: int = 0, created: int = 0
    ) -> tuple[int, Cursor, Counters]:
        row = self._database.execute(
            """UPDATE inboxes i SET seq = seq + 1, unread = unread + %s, unseen = unseen + %s, total = total + %s,
                   created = created + %s
               FROM deployment d WHERE i.tenant = %s AND i.recipient = %s
               RETURNING i.key, d.epoch, i.seq, i.unread, i.unseen, i.total""",
            [unread, unseen, total, created, TENANT, recipient],
        ).fetchone()
        assert row is not None
        key, epoch, seq, *counters = (int(str(value)) for value in row.values())
        return key, Cursor(epoch, seq), Counters(*counters)

    def _insert(self, recipient: str, title: str) -> tuple[int, Cursor, Counters, str, bytes]:
        key, cursor, counters = self._advance(recipient, 1, 1, 1, 1)
        id: UUID = uuid4()
        row = self._database.execute(
            """INSERT INTO notifications (id, key, tenant, event_key, ordinal, created_seq, seq, type, priority, title,
                   message, metadata, created_at)
               SELECT %s, key, tenant, %s, created, seq, seq, %s, 1, %s, 'text', '{}', now() FROM inboxes WHERE key = %s
               RETURNING *""",
            [id, EVENT_KEY, TYPE, title, key],
        ).fetchone()
        assert row is not None
        return key, cursor, counters, str(id), shared_rest(row)
