"""One Celery task for each event: `celery -A bench.plain.tasks worker -c 2`, as its author would write it.

A task is one transaction (the row, and the recipient's unread count) and one PUBLISH. No results, no events, messages
acknowledged early: the cheapest settings, which lose what a killed worker had.
"""

from __future__ import annotations

import os
from functools import lru_cache

import orjson
import psycopg
from celery import Celery
from redis import Redis

app = Celery("plain", broker=os.environ["PLAIN_BROKER"], set_as_current=False)
app.conf.update(task_ignore_result=True, worker_send_task_events=False, task_publish_retry=False)

WRITE = """
    WITH moved AS (INSERT INTO plain_inboxes AS i (recipient, unread) VALUES (%(recipient)s, 1)
                   ON CONFLICT (recipient) DO UPDATE SET unread = i.unread + 1 RETURNING unread)
    INSERT INTO plain_notifications (event, recipient, title, message)
    SELECT %(event)s, %(recipient)s, %(title)s, %(message)s FROM moved
    RETURNING (SELECT unread FROM moved)"""


@lru_cache(maxsize=1)
def _database() -> psycopg.Connection:
    return psycopg.connect(os.environ["PLAIN_DATABASE"], autocommit=True)


@lru_cache(maxsize=1)
def _redis() -> Redis:
    return Redis.from_url(os.environ["PLAIN_BROKER"])


@app.task(name="plain.notify")
def notify(event: str, recipient: str, badge: str) -> None:
    """Store a notification and push it."""
    message = f'Your certificate "{badge}" has been issued and is pending blockchain confirmation.'
    given = {"event": event, "recipient": recipient, "title": "Certificate Issued", "message": message}
    row = _database().execute(WRITE, given).fetchone()
    assert row is not None
    _redis().publish(f"plain:{recipient}", orjson.dumps({**given, "unread": row[0]}))
