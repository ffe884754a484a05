"""One person of a running API: an inbox over real HTTP, notified as producers and workers do it, and what they hear."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx
import psycopg
import redis

from shared.frames import channel_of
from shared.tokens import make_token
from tests import directory
from tests.directory import Row
from tests.edge import Edge
from tests.listener import parse
from workers.fan_out import fan_out_pending

TENANT = "uni"
#: What was published is heard long before.
HEARD_S = 30.0
_numbers = count(1)


class Person:
    """Somebody with an inbox: `http` has the paths below `/api` and their token."""

    def __init__(
        self,
        name: str,
        http: httpx.Client,
        db: psycopg.Connection[Row],
        client: redis.Redis,
        heard: redis.client.PubSub,
    ) -> None:
        self.name, self.http, self._db, self._client, self._heard = name, http, db, client, heard
        self._made = 0
        self._marker = f"test:marker:{name}".encode()
        for channel in (channel_of(TENANT, name), self._marker):
            self._heard.subscribe(channel)
            assert self._next()["type"] == "subscribe"

    def notify(self, number: int = 1) -> None:
        """Give them notifications, with badges that are numbered from 1."""
        for _ in range(number):
            self._made += 1
            data = {"student_id": self.name, "certificate_id": "c", "badge_title": f"Badge {self._made}"}
            event = {"specversion": "1.0", "id": f"{self.name}-{self._made}", "source": "/test",
                     "type": "certificate.verified", "tenant": TENANT, "data": data}  # fmt: skip
            self._db.execute("SELECT carillon_publish(%s)", (json.dumps(event),))
            fan_out_pending()

    def put(self, **columns: int) -> None:
        """Write numbers into the inbox's row."""
        for column, number in columns.items():
            self._db.execute(f"UPDATE inboxes SET {column} = %s WHERE recipient = %s".encode(), (number, self.name))

    def page(self, **query: Any) -> dict[str, Any]:
        """Return a page of the inbox."""
        answer = self.http.get("/notifications", params=query)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def ids(self, **query: Any) -> list[str]:
        """Return the ids of a page's notifications."""
        return [node["id"] for node in self.page(**query)["nodes"]]

    def changes(self, since: str) -> dict[str, Any]:
        """Return what changed after a cursor."""
        told: dict[str, Any] = self.http.get("/notifications/changes", params={"since": since}).json()
        return told

    def frames(self) -> list[dict[str, Any]]:
        """Return the frames that were published for them since the last call.

        They end at a marker on another channel of the same subscription, which hears both in the order of publishing.
        """
        told: list[dict[str, Any]] = []
        self._client.publish(self._marker, b"")
        while (message := self._next())["channel"] != self._marker:
            told += [{"id": frame.id, **frame.data} for frame in parse(message["data"])]
        return told

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] | None = self._heard.get_message(timeout=HEARD_S)
        assert message is not None, "the marker was not heard"
        return message


@contextmanager
def person_of(edge: Edge, *, registered: bool = True) -> Iterator[Person]:
    """Somebody new, for as long as the block runs. This process has the settings of the API's."""
    name = f"person{next(_numbers)}"
    headers = {"authorization": f"Bearer {make_token(TENANT, name, ['student'])}"}
    with (
        directory.connect(edge.environment["CARILLON_DATABASE_URL"]) as db,
        redis.Redis.from_url(edge.environment["CARILLON_REDIS_URL"]) as client,
        client.pubsub() as heard,
        httpx.Client(base_url=f"{edge.server.url}/api", headers=headers, timeout=30) as http,
    ):
        if registered:
            directory.add_recipients(db, TENANT, [name])
        yield Person(name, http, db, client, heard)
