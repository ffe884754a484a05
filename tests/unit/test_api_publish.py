"""A mutation's frame is published soon, or given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api import publish
from shared import stream_redis
from shared.settings import load_settings


@pytest.fixture
async def publisher(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[publish.Publisher]:
    """A publisher to a cluster whose servers never answer, in a hundredth of the patience."""
    cluster = {"redis_cluster_nodes": "127.0.0.1:2", "result_url": "redis://127.0.0.1:1/0"}
    made = load_settings(redis_url="redis://127.0.0.1:1", **cluster)
    monkeypatch.setattr(stream_redis, "settings", lambda: made)
    monkeypatch.setattr(publish, "TIMEOUT_S", 0.005)

    async def silent(*_command: Any, **_options: Any) -> None:
        await asyncio.Event().wait()

    found = publish.Publisher()
    monkeypatch.setattr(found, "_publish", silent)
    monkeypatch.setattr(found._redis, "ping", silent)
    yield found
    await found.close()


async def test_a_cluster_that_looks_for_a_servers_slots_holds_no_answer_up(publisher: publish.Publisher) -> None:
    async with asyncio.timeout(30):
        assert not await publisher.publish("uni", "ada", b"frame")
        assert not await publisher.ping()
