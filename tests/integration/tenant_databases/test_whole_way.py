"""Streams over three databases, with real processes."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from shared import catalog, homes
from shared.databases import SHARED
from shared.directory import Recipient
from shared.plans import run_plan
from shared.tokens import make_token
from shared.topics import Membership
from tests.eventually import eventually_async
from tests.listener import Listener
from tests.producers import envelope, post
from tests.servers import ApiServer, Beat, Worker
from tests.universities import NORTH, PLATFORM, SOUTH, Split, issued, state, work


def expected(tenant: str) -> dict[str, int]:
    """Return how many notifications each of a university's people gets of the credentials domain's examples."""
    told: dict[str, int] = {}
    for kind in catalog.catalog():
        if kind.domain != "credentials" or kind.retired or kind.name == "university.registered":
            continue
        for audience in kind.audiences:
            if audience.kind == "recipient":
                told["student"] = told.get("student", 0) + 1
            elif audience.role == "university_admin":
                told["admin"] = told.get("admin", 0) + 1
            elif audience.role == "super_admin":
                told["super"] = told.get("super", 0) + 1
    return told


@pytest.fixture
def server(split: Split, new_api_server: Callable[..., ApiServer], worker: Worker, beat: Beat) -> ApiServer:
    """The product's processes over the three databases."""
    return new_api_server()


async def test_the_credentials_domain_runs_over_three_databases(split: Split, key: str, server: ApiServer) -> None:
    types = [kind for kind in catalog.catalog() if kind.domain == "credentials" and not kind.retired]
    listeners = {
        (tenant, who): Listener(server.url, make_token(tenant, who))
        for tenant, who in ((NORTH, "ada"), (NORTH, "ben"), (NORTH, "grace"), (SOUTH, "cleo"), (SOUTH, "hugo"),
                            (PLATFORM, "sam"))
    }  # fmt: skip
    for listener in listeners.values():
        await listener.open()
        await listener.count(1)
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        posted = []
        for tenant, student in ((NORTH, "ada"), (SOUTH, "cleo")):
            for kind in types:
                home = PLATFORM if kind.name == "university.registered" else tenant
                named = {audience.field: student for audience in kind.audiences if audience.field}
                event = envelope(f"{tenant}-{kind.name}", tenant=home, type=kind.name, data={**kind.example, **named})
                assert (await post(client, key, event)).status_code == 202
                posted.append((event["id"], home))

        async def all_done() -> bool:
            return all([(await state(client, key, id, home))["state"] == "done" for id, home in posted])

        await eventually_async(all_done, within=60)
    per = expected(NORTH)
    counts = {(tenant, who): n for tenant, who, n in (
        (NORTH, "ada", per["student"]), (NORTH, "ben", 0), (NORTH, "grace", per["admin"]),
        (SOUTH, "cleo", per["student"]), (SOUTH, "hugo", per["admin"]), (PLATFORM, "sam", 2 * per["super"] + 2),
    )}  # fmt: skip
    for person, listener in listeners.items():
        frames = await listener.count(1 + counts[person], within=30)
        made = [frame.seq for frame in frames if frame.kind == "created"]
        assert made == list(range(1, counts[person] + 1)), person
        await listener.close()
    told = split.told()
    where = {name: {(tenant, who) for tenant, who, _ in rows} for name, rows in told.items()}
    assert where == {
        SHARED: {(NORTH, "grace"), (SOUTH, "hugo"), (PLATFORM, "sam")},
        NORTH: {(NORTH, "ada")},
        SOUTH: {(SOUTH, "cleo")},
    }
    assert {person: sum((*person,) == row[:2] for rows in told.values() for row in rows) for person in counts} == counts


async def test_a_stream_opened_before_its_recipient_was_registered_finds_the_home(
    split: Split, key: str, settings_env: dict[str, str], new_api_server: Callable[..., ApiServer]
) -> None:
    server = new_api_server(CARILLON_RECONCILE_SECONDS="0.3")
    listener = Listener(server.url, make_token(NORTH, "ivy"))
    await listener.open()
    await listener.count(1)
    run_plan(homes.put_recipient(Recipient(NORTH, "ivy", ("university_admin",))))
    run_plan(homes.change_members([Membership(NORTH, "course:rust", "ivy")]))
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        assert (await post(client, key, issued("e1"))).status_code == 202
    work()
    frames = await listener.until(lambda told: [frame for frame in told if frame.kind == "created"])
    assert frames[-1].data["notification"]["type"] == "CERTIFICATE_ISSUED"
    await listener.close()
