"""GitHub's example deliveries, posted as GitHub would, and the streams of the people in them, watched."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
from sqlalchemy import text

from shared import audit, db, demo, directory, homes, signing
from shared.cli.console import CommandFailed
from shared.cli.follow import Follower, Told
from shared.cli.server import problem_of
from shared.plans import run_plan
from shared.settings import PROJECT_ROOT
from shared.tokens import make_token

PAYLOADS = PROJECT_ROOT / ".cache" / "webhooks-examples" / "package" / "api.github.com" / "index.json"
TOKEN_SECONDS = 3600
#: Streams open within a second; a machine that does other things as well takes longer.
CONNECT_SECONDS = 20.0
#: The events are fanned out within a second or two of the last delivery.
SETTLE_SECONDS = 30.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Delivery:
    """One example: the event's name as in `X-GitHub-Event`, and the payload."""

    name: str
    payload: dict[str, Any]

    @property
    def words(self) -> str:
        """Return the event with its action: `issues.opened`."""
        action = self.payload.get("action")
        return f"{self.name}.{action}" if action else self.name


@dataclass(slots=True)
class Seen:
    """What one person's stream told. Written by that stream's thread alone."""

    login: str
    connected: bool = False
    unread: int = 0
    notifications: list[dict[str, Any]] = field(default_factory=list)


def read_deliveries(path: Path) -> list[Delivery]:
    """Return every example of the file. Raises `CommandFailed` where there is none."""
    if not path.exists():
        raise CommandFailed(
            f"There are no example deliveries at {path}: `python tests/fetch_webhook_examples.py` fetches them."
        )
    webhooks = orjson.loads(path.read_bytes())
    return [Delivery(webhook["name"], payload) for webhook in webhooks for payload in webhook["examples"]]


def logins(deliveries: Iterable[Delivery]) -> list[str]:
    """Return the people in the payloads, each once, sorted: users, neither bots nor organisations."""
    found: set[str] = set()
    for delivery in deliveries:
        found.update(_users(delivery.payload))
    return sorted(found, key=str.lower)


def _users(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("type") == "User" and isinstance(value.get("login"), str):
            yield value["login"]
        for inner in value.values():
            yield from _users(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _users(inner)


def register(people: Sequence[str], tenant: str) -> None:
    """Register the people in the tenant, which is made if it is new; the page offers them from now on."""
    rows = [directory.Recipient(tenant, login, attributes=demo.attributes(login, "on GitHub")) for login in people]
    run_plan(homes.make_tenant(tenant, audit.operator()))
    for row in rows:
        run_plan(homes.put_recipient(row))


@contextmanager
def secret_of(tenant: str) -> Iterator[str]:
    """Give a webhook secret that lives as long as the demonstration."""
    with db.transaction(db.EVERY_TENANT) as connection:
        id, secret = signing.create_secret(connection, "github", tenant)
    try:
        yield secret
    finally:
        with db.transaction(db.EVERY_TENANT) as connection:
            signing.revoke_secret(connection, id)


@dataclass(slots=True)
class Sender:
    """Signs and posts deliveries; `ids` are those that were accepted, `answers` counts by status code."""

    client: httpx.Client
    tenant: str
    secret: str
    ids: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)

    def post(self, delivery: Delivery) -> None:
        """Post one delivery as GitHub does. Raises `CommandFailed` where it is not accepted."""
        id = str(uuid4())
        body = orjson.dumps(delivery.payload)
        digest = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "content-type": "application/json",
            "x-github-event": delivery.name,
            "x-github-delivery": id,
            "x-hub-signature-256": f"sha256={digest}",
        }
        answer = self.client.post("/api/webhooks/github", params={"tenant": self.tenant}, content=body, headers=headers)
        self.answers[answer.status_code] += 1
        if answer.status_code != 202:
            raise problem_of(answer)
        self.ids.append(id)


class Watch:
    """The streams of some people, one thread each; they end with the program."""

    def __init__(self, server: str | None, tenant: str, people: Sequence[str]) -> None:
        self.seen = {login: Seen(login) for login in people}
        self.failure: CommandFailed | None = None
        for login in people:
            follower = Follower(server, partial(make_token, tenant, login, (), TOKEN_SECONDS))
            threading.Thread(target=self._follow, args=(follower, self.seen[login]), daemon=True).start()

    def _follow(self, follower: Follower, seen: Seen) -> None:
        try:
            for told in follower.frames():
                _note(seen, told)
        except CommandFailed as problem:
            self.failure = problem

    def connected(self) -> None:
        """Return once every stream is open; raises `CommandFailed` when one is refused, or after 20 s."""
        deadline = time.monotonic() + CONNECT_SECONDS
        while not all(seen.connected for seen in self.seen.values()):
            if self.failure:
                raise self.failure
            if time.monotonic() > deadline:
                raise CommandFailed("The streams did not open: `carillon doctor` may know why.")
            time.sleep(POLL_SECONDS)

    @property
    def total(self) -> int:
        """How many notifications the streams told so far."""
        return sum(len(seen.notifications) for seen in self.seen.values())


def _note(seen: Seen, told: Told) -> None:
    seen.connected = seen.connected or told.event == "connected"
    seen.unread = told.data.get("unreadCount", seen.unread)
    if told.event != "notification":
        return
    data = told.data
    whole = (
        data["notifications"]
        if data["type"] == "changed"
        else [data["notification"]]
        if data["type"] == "created"
        else []
    )
    known = {notification["id"] for notification in seen.notifications}
    seen.notifications += [notification for notification in whole if notification["id"] not in known]


_PROGRESS = text("""
    SELECT count(*) FILTER (WHERE state IN ('accepted', 'fanning_out')) AS open,
           count(*) FILTER (WHERE state = 'failed') AS failed, coalesce(sum(notifications), 0)::bigint AS made
    FROM events WHERE tenant = :tenant AND id = ANY(CAST(:ids AS text[]))""")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the queue of record says of the deliveries."""

    open: int
    failed: int
    made: int


def outcome(sender: Sender) -> Outcome:
    """Return how far the deliveries are."""
    with db.transaction(sender.tenant) as connection:
        row = connection.execute(_PROGRESS, {"tenant": sender.tenant, "ids": sender.ids}).mappings().one()
    return Outcome(row["open"], row["failed"], row["made"])


def settled(sender: Sender, watch: Watch) -> Iterator[Outcome]:
    """Yield the outcome again and again until every event is done and every notification was told, or for 30 s."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = outcome(sender)
        yield now
        if (not now.open and watch.total >= now.made) or time.monotonic() > deadline:
            return
        time.sleep(POLL_SECONDS)
