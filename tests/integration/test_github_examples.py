"""GitHub's 329 example deliveries, signed and posted to a real server: who is told what, and what the streams see."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from shared import db, directory, key_store, signing, statements
from shared.catalog import catalog
from shared.tokens import make_token
from tests.eventually import eventually_async
from tests.github_examples import Row, every_example, people, table
from tests.servers import ApiServer

TENANT = "octo"
#: Counted by hand. #2 has octocat as its requested reviewer from the first `assigned` on: two closed, two reopened, one
#: requested, one dismissed, and three comments. #4 has dan2wik as the author of its answer: the answer and a comment.
OCTOCATS, DAN2WIKS = 9, 2
Frame = tuple[str, dict[str, Any]]


class GitHub:
    """Posts to one server as GitHub does, to as many tenants as asked for, everyone in the table registered in each."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.secrets: dict[str, str] = {}
        with db.transaction("*") as connection:
            self.key = key_store.create_key(connection, None, ["events:write"])

    def settle(self, tenant: str) -> None:
        if tenant in self.secrets:
            return
        known = [directory.Recipient(tenant, login) for login in people()]
        with db.transaction("*") as connection:
            statements.run(connection, directory.make_tenant(tenant))
            statements.run(connection, directory.put_recipients(known))
            _, self.secrets[tenant] = signing.create_secret(connection, "github", tenant)

    async def deliver(self, tenant: str, name: str, id: str, payload: dict[str, Any]) -> httpx.Response:
        self.settle(tenant)
        body = json.dumps(payload).encode()
        signature = hmac.new(self.secrets[tenant].encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": name,
            "X-GitHub-Delivery": id,
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        return await self.client.post("/api/webhooks/github", params={"tenant": tenant}, content=body, headers=headers)

    async def post(self, tenant: str, name: str, id: str, payload: dict[str, Any], status: str) -> None:
        answer = await self.deliver(tenant, name, id, payload)
        assert (answer.status_code, answer.json()) == (202, {"events": [{"id": id, "status": status}]}), (name, id)

    async def event(self, tenant: str, id: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return await self.client.get(
            f"/api/events/{id}", params={"source": "github", "tenant": tenant}, headers=headers
        )

    async def fanned_out(self, tenant: str, id: str) -> dict[str, Any]:
        """Return the event once it is done."""

        async def done() -> dict[str, Any] | None:
            event: dict[str, Any] = (await self.event(tenant, id)).raise_for_status().json()
            return event if event["state"] == "done" else None

        event = await eventually_async(done, within=30)
        assert event is not None
        return event

    async def inbox(self, tenant: str, login: str) -> list[dict[str, Any]]:
        """Return a person's notifications, newest first."""
        headers = {"Authorization": f"Bearer {make_token(tenant, login)}"}
        answer = await self.client.get("/api/notifications", params={"first": 100}, headers=headers)
        nodes: list[dict[str, Any]] = answer.raise_for_status().json()["nodes"]
        return nodes


@pytest.fixture
async def github(configured: dict[str, str], api_server: ApiServer) -> AsyncIterator[GitHub]:
    async with httpx.AsyncClient(base_url=api_server.url, timeout=30) as client:
        yield GitHub(client)


def notification_type(name: str) -> str:
    found = catalog().get(name)
    assert found is not None
    return found.notification_type


def expected(rows: list[Row]) -> Counter[tuple[str, ...]]:
    """Return what the table says that everyone has in the end: tenant, login, type, title, message, link."""
    return Counter(
        (row.tenant, told.to, notification_type(row.type), told.title, told.message, told.link or "")
        for row in rows
        for told in row.told
    )


@pytest.mark.usefixtures("worker")
async def test_everyone_is_told_what_the_table_says_and_nobody_twice(github: GitHub) -> None:
    rows = table()
    for place, row in enumerate(rows):
        await github.post(row.tenant, row.event, f"row-{place}", row.payload, "accepted")
        event = await github.fanned_out(row.tenant, f"row-{place}")
        assert (event["type"], event["counts"]["notifications"]) == (row.type, len(row.told)), row.why
        await github.post(row.tenant, row.event, f"row-{place}", row.payload, "duplicate")
    told: Counter[tuple[str, ...]] = Counter()
    for tenant in github.secrets:
        for login in people():
            nodes = await github.inbox(tenant, login)
            told.update((tenant, login, n["type"], n["title"], n["message"], n["actionUrl"] or "") for n in nodes)
    assert told == expected(rows)


@asynccontextmanager
async def httpx_sse_frames(url: str, tenant: str, login: str) -> AsyncIterator[list[Frame]]:
    """Follow a stream with httpx-sse; the list grows while it is open. It is connected when this returns."""
    frames: list[Frame] = []

    async def follow() -> None:
        headers = {"Authorization": f"Bearer {make_token(tenant, login)}"}
        async with (
            httpx.AsyncClient(timeout=60) as client,
            aconnect_sse(client, "GET", f"{url}/api/notifications/stream", headers=headers) as source,
        ):
            async for event in source.aiter_sse():
                frames.append((event.event, event.json()))

    task = asyncio.create_task(follow())
    await eventually_async(_returns(lambda: bool(frames)))
    yield frames
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def curl_frames(url: str, tenant: str, login: str, output: Path) -> AsyncIterator[Callable[[], list[Frame]]]:
    """Follow a stream with `curl -N`; calling what this gives reads the frames that have arrived so far."""
    header = f"Authorization: Bearer {make_token(tenant, login)}"
    with output.open("wb") as file:
        curl = await asyncio.create_subprocess_exec(
            "curl", "--silent", "-N", "-H", header, f"{url}/api/notifications/stream", stdout=file
        )

    def frames() -> list[Frame]:
        whole, _, _ = output.read_text(encoding="utf-8").rpartition("\n\n")
        return [frame for block in whole.split("\n\n") if (frame := _parsed(block)) is not None]

    await eventually_async(_returns(lambda: bool(frames())))
    yield frames
    curl.terminate()
    await curl.wait()


def _parsed(block: str) -> Frame | None:
    fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
    return (fields["event"], json.loads(fields["data"])) if "data" in fields else None


def _returns(look: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def looked() -> bool:
        return look()

    return looked


def created(frames: list[Frame]) -> list[dict[str, Any]]:
    return [data for name, data in frames if name == "notification"]


@pytest.mark.usefixtures("worker")
async def test_all_329_examples_are_accepted_once_and_both_streams_see_the_frames(
    github: GitHub, api_server: ApiServer, tmp_path: Path
) -> None:
    github.settle(TENANT)
    deliveries = list(every_example())
    assert len(deliveries) == 329
    async with (
        httpx_sse_frames(api_server.url, TENANT, "octocat") as seen,
        curl_frames(api_server.url, TENANT, "octocat", tmp_path / "curl.txt") as curled,
    ):
        for name, id, payload in deliveries:
            await github.post(TENANT, name, id, payload, "accepted")
        for name, id, payload in deliveries:
            await github.post(TENANT, name, id, payload, "duplicate")
        done = [await github.fanned_out(TENANT, id) for _, id, _ in deliveries]
        await eventually_async(_returns(lambda: len(created(seen)) == len(created(curled())) == OCTOCATS))
        assert created(seen) == created(curled())
        assert [(f["prev"], f["type"], f["notification"]["seq"]) for f in created(seen)] == [
            (seq - 1, "created", seq) for seq in range(1, OCTOCATS + 1)
        ]
        listed = await github.inbox(TENANT, "octocat")
        assert [f["notification"] for f in created(seen)] == listed[::-1]
    assert sum(event["counts"]["notifications"] for event in done) == OCTOCATS + DAN2WIKS
    assert Counter(event["state"] for event in done) == {"done": 329}
    inboxes = {login: len(await github.inbox(TENANT, login)) for login in people()}
    assert inboxes == {"Codertocat": 0, "octocat": OCTOCATS, "hubot": 0, "monalisa": 0, "dan2wik": DAN2WIKS}


async def test_a_delivery_with_a_wrong_signature_is_refused_and_stored_nowhere(github: GitHub) -> None:
    row = table()[0]
    github.settle(TENANT)
    github.secrets[TENANT] = "not the secret"
    answer = await github.deliver(TENANT, row.event, "d-1", row.payload)
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert (await github.event(TENANT, "d-1")).status_code == 404
