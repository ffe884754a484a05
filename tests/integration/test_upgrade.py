"""Expand and contract: the previous release's code runs on over this release's schema, beside this release's code."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
import psycopg
import pytest

from shared import migration
from shared.settings import PROJECT_ROOT
from tests.listener import Frame, Listener, token_for
from tests.producers import TENANT, envelope, post
from tests.servers import ApiServer, Child, Worker, base_environment

ARCHIVE = PROJECT_ROOT / "tests" / "upgrade" / "previous.tar.xz"
PEOPLE = [f"upgraded-{number}" for number in range(5)]
#: So small that an announcement to all of them goes in several chunks.
CHUNK = {"CARILLON_CHUNK_SIZE": "2"}
#: Two releases' processes on a busy machine.
WITHIN_S = 60.0
#: Run by the previous release, as its operator would have: its schema, its directory, a producer's key.
SET_UP = f"""
from shared import db, directory, key_store
from shared.cli import migrate
migrate()
with db.transaction("*") as connection:
    directory.ensure_tenant(connection, {TENANT!r})
    directory.import_recipients(connection, [{{"tenant": {TENANT!r}, "id": id}} for id in {PEOPLE!r}])
    print(key_store.create_key(connection, ({TENANT!r},), ("events:write",)))
"""
COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, column_default IS NOT NULL AS has_default
    FROM information_schema.columns WHERE table_schema = 'public'
"""

AnyChild = TypeVar("AnyChild", bound=Child)


class Column(NamedTuple):
    """A column as far as code that knows it, or does not, may notice."""

    type: str
    nullable: str
    has_default: bool


class PreviousRelease:
    """The previous release's code in a folder of its own, with an installation's settings."""

    def __init__(self, folder: Path, settings_env: dict[str, str]) -> None:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        self.folder = folder
        #: What is named there is found before the checkout that is installed in place.
        self.environment = {**settings_env, "PYTHONPATH": str(folder)}

    def set_up(self) -> str:
        """Migrate as it did, register the people, and return a producer's key."""
        done = subprocess.run(
            [sys.executable, "-c", SET_UP], cwd=self.folder, env={**base_environment(), **self.environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]

    def its(self, child: AnyChild) -> AnyChild:
        """Have a process that is not yet started run this code."""
        # The tests' zygote has this release's.
        child.folder, child.zygote = self.folder, None
        return child


class _PreviousApi(ApiServer):
    """It took only its own schema for a good one: whether it serves, not whether it is ready, is asked."""

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def settings_env(settings_env: dict[str, str], empty_database_url: str) -> dict[str, str]:
    return {**settings_env, "CARILLON_DATABASE_URL": empty_database_url, **CHUNK}


@pytest.fixture
def previous(settings_env: dict[str, str], tmp_path: Path) -> PreviousRelease:
    """The previous release, unpacked."""
    return PreviousRelease(tmp_path / "previous", settings_env)


@pytest.fixture
def started() -> Iterator[Callable[[Child], None]]:
    """Start processes that end with the test."""
    with ExitStack() as stack:

        def start(child: Child) -> None:
            stack.callback(child.kill)
            child.start()

        yield start


def _columns(url: str) -> dict[tuple[str, str], Column]:
    with psycopg.connect(url) as session:
        return {(row[0], row[1]): Column(*row[2:]) for row in session.execute(COLUMNS)}


def test_this_releases_migrations_only_add(previous: PreviousRelease, empty_database_url: str) -> None:
    """What old code reads and writes is there unchanged, and a row that it writes lacks nothing."""
    previous.set_up()
    before = _columns(empty_database_url)
    migration.migrate(empty_database_url)
    after = _columns(empty_database_url)
    assert before
    assert {place: after.get(place) for place in before} == before
    tables = {table for table, _ in before}
    demanded = [
        place
        for place, column in after.items()
        if place not in before and place[0] in tables and column.nullable == "NO" and not column.has_default
    ]
    assert demanded == []


async def test_an_installation_is_upgraded_while_it_runs(
    previous: PreviousRelease,
    settings_env: dict[str, str],
    new_api_server: Callable[..., ApiServer],
    new_worker: Callable[..., Worker],
    started: Callable[[Child], None],
) -> None:
    """As docs/deployment.md says: migrate, replace the workers, then the API, with streams open all the while."""
    key, logs = previous.set_up(), previous.folder.parent
    old_api = previous.its(_PreviousApi(previous.environment, logs / "old-api.log"))
    old_worker = previous.its(Worker(previous.environment, logs / "old-worker.log", name="old"))
    started(old_api)
    started(old_worker)
    person, token = PEOPLE[0], token_for(settings_env, PEOPLE[0], tenant=TENANT)
    posted = 0

    async def tell(api: ApiServer, *streams: Listener) -> None:
        """Post an event to one and an announcement to all, and require that each stream tells them in their turn."""
        nonlocal posted
        posted += 1
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
            data = {"student_id": person, "achievement_id": f"a-{posted}", "title": "First steps"}
            assert (await post(client, key, envelope(f"one-{posted}", data=data))).status_code == 202
            await _each_tells(streams, 2 * posted - 1, "ACHIEVEMENT_AWARDED")
            said = {"title": "Exams", "message": "On Monday.", "audience": {"everyone": True}}
            announced = envelope(f"all-{posted}", type="system.announcement", data=said)
            assert (await post(client, key, announced)).status_code == 202
            await _each_tells(streams, 2 * posted, "SYSTEM_ANNOUNCEMENT")

    async with Listener(old_api.url, token) as at_old:
        await at_old.count(1, WITHIN_S)
        await tell(old_api, at_old)
        migration.migrate(settings_env["CARILLON_DATABASE_URL"])
        await tell(old_api, at_old)
        api = new_api_server()
        async with Listener(api.url, token) as at_new:
            await at_new.count(1, WITHIN_S)
            await tell(api, at_old, at_new)
            assert old_worker.stop() == 0
            new_worker()
            await tell(old_api, at_old, at_new)
            await tell(api, at_old, at_new)
            await _requires_both_to_agree(old_api, api, token)
            await at_old.until(lambda frames: frames[-1].kind == "read", WITHIN_S)
            old_api.stop()
            *_, last, goodbye = await at_old.until_closed(WITHIN_S)
            assert goodbye.event == "goodbye"
            async with Listener(api.url, token, Last_Event_ID=str(last.id)) as back:
                # The new release takes the old one's cursor, and nothing is missing.
                assert [frame.event for frame in await back.count(2, WITHIN_S)] == ["connected", "synced"]


async def _each_tells(streams: tuple[Listener, ...], seq: int, kind: str) -> None:
    def is_told(frames: list[Frame]) -> bool:
        last = frames[-1]
        return (last.kind, last.seq) == ("created", seq) and last.data["notification"]["type"] == kind

    for stream in streams:
        frames = await stream.until(is_told, WITHIN_S)
        first = frames[0].seq
        assert [frame.seq for frame in frames] == list(range(first, seq + 1))


async def _requires_both_to_agree(old: ApiServer, new: ApiServer, token: str) -> None:
    """One reads what the other wrote."""
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        page = (await client.get(f"{new.url}/api/notifications")).json()
        assert (await client.get(f"{old.url}/api/notifications")).json()["nodes"] == page["nodes"]
        one = page["nodes"][0]["id"]
        assert (await client.patch(f"{old.url}/api/notifications/{one}", json={"read": True})).status_code == 200
        assert (await client.get(f"{new.url}/api/notifications/{one}")).json()["read"] is True
        counted = [(await client.get(f"{at.url}/api/notifications/unread-count")).json() for at in (old, new)]
        assert counted[0] == counted[1]
        assert counted[0]["unreadCount"] == page["unreadCount"] - 1
