"""The API, and a producer key, over three databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import orjson
import pytest

from shared import audit, homes
from shared.databases import SHARED
from shared.directory import Recipient
from shared.plans import run_plan
from tests import directory
from tests.producers import make_key, serving
from tests.universities import ADMINS, NORTH, PLATFORM, SOUTH, STUDENTS, Split


@pytest.fixture
def urls(settings_env: dict[str, str], new_database: Callable[[], str]) -> dict[str, str]:
    """The URLs of the three databases, by name; two of them become the universities'."""
    own = {NORTH: new_database(), SOUTH: new_database()}
    settings_env["CARILLON_TENANT_DATABASES"] = orjson.dumps(own).decode()
    return {SHARED: settings_env["CARILLON_DATABASE_URL"], **own}


@pytest.fixture
def split(urls: dict[str, str], configured: dict[str, str]) -> Iterator[Split]:
    """The databases with the universities' people, and a super admin of the platform."""
    told = Split({name: directory.connect(url) for name, url in urls.items()})
    for tenant in (NORTH, SOUTH):
        run_plan(homes.make_tenant(tenant, audit.operator()))
        for student in STUDENTS[tenant]:
            run_plan(homes.put_recipient(Recipient(tenant, student, ("student",))))
        run_plan(homes.put_recipient(Recipient(tenant, ADMINS[tenant], ("university_admin",))))
    run_plan(homes.put_recipient(Recipient(PLATFORM, "sam", ("super_admin",))))
    yield told
    for session in told.sessions.values():
        session.close()


@pytest.fixture
async def api(split: Split) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API."""
    async with serving() as client:
        yield client


@pytest.fixture
def key(split: Split) -> str:
    """A producer key for every tenant."""
    return make_key(None, ("events:write", "directory:write"))
