"""The API within the test's process: real database, real Redis, no HTTP server to start."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.producers import make_key, serving


@pytest.fixture
async def api(configured: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API."""
    async with serving() as client:
        yield client


@pytest.fixture
def key(configured: dict[str, str]) -> str:
    """A producer key for the tenant `acme` with the scope `events:write`."""
    return make_key()
