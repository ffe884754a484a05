"""Two universities with databases of their own beside the shared one: homes, forwards, and what belongs to all."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from shared import audit, catalog, databases, homes
from shared.databases import SHARED, working_in
from shared.directory import Recipient
from shared.keys import prefix_of
from shared.plans import run_plan
from shared.tokens import make_token
from shared.topics import Membership
from tests import directory
from tests.directory import Row
from tests.eventually import eventually, eventually_async
from tests.listener import Listener
from tests.producers import BATCHED, bearer, envelope, errors_of, make_key, post, serving
from tests.servers import ApiServer, Beat, Worker, die_forwarding
from workers import cancel as cancelling
from workers import forward as forwarding
from workers.chunks import plan, run_chunk
from workers.everywhere import in_every_database
from workers.fan_out import fan_out_pending
from workers.forward import forward_pending

NORTH, SOUTH, PLATFORM = "uni-north", "uni-south", "platform"
ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
#: Reaches the one whom it names, and nobody else.
GRADE = {"student_id": "ada", "course_id": "rust", "course_title": "Rust", "grade": "A"}
STUDENTS = {NORTH: ("ada", "ben"), SOUTH: ("cleo",)}
ADMINS = {NORTH: "grace", SOUTH: "hugo"}

Session = psycopg.Connection[Row]


@dataclass
class Split:
    """The three databases, as their owner sees them."""

    sessions: dict[str, Session] = field(default_factory=dict)

    def rows(self, name: str, query: str) -> list[tuple[Any, ...]]:
        """Return a query's rows from one database."""
        return [tuple(row.values()) for row in self.sessions[name].execute(query.encode()).fetchall()]

    def told(self) -> dict[str, list[tuple[str, str, str]]]:
        """Return for each database who got which notification: tenant, recipient, type."""
        query = """SELECT n.tenant, i.recipient, n.type FROM notifications n JOIN inboxes i ON i.key = n.key
                   WHERE n.deleted_at IS NULL ORDER BY 1, 2, 3"""
        return {name: self.rows(name, query) for name in self.sessions}


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


def work() -> None:
    """Fan out and forward everything that is pending, as workers would."""
    for _ in range(2):
        for name in databases.names():
            with working_in(name):
                fan_out_pending()
                forward_pending()


def issued(id: str, tenant: str = NORTH, **changes: Any) -> dict[str, Any]:
    return envelope(id, tenant=tenant, type="certificate.issued", data={**ISSUED, **changes})


async def state(api: httpx.AsyncClient, key: str, id: str, tenant: str = NORTH) -> dict[str, Any]:
    query = {"source": "/tests", "tenant": tenant}
    answer = await api.get(f"/api/events/{id}", params=query, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def people(split: Split, name: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in split.rows(name, "SELECT tenant, id FROM recipients ORDER BY 1, 2")]


# --- homes ---


def test_students_are_at_home_in_their_universitys_database_and_admins_in_the_shared_one(split: Split) -> None:
    assert people(split, SHARED) == [(PLATFORM, "sam"), (NORTH, "grace"), (SOUTH, "hugo")]
    assert people(split, NORTH) == [(NORTH, "ada"), (NORTH, "ben")]
    assert people(split, SOUTH) == [(SOUTH, "cleo")]
    assert split.rows(NORTH, "SELECT tenant, id FROM recipients_elsewhere") == [(NORTH, "grace")]


async def test_a_home_stays_whatever_becomes_of_the_roles(api: httpx.AsyncClient, key: str, split: Split) -> None:
    for who, roles in (("ada", ["student", "university_admin"]), ("grace", [])):
        answer = await api.put(f"/api/recipients/{NORTH}/{who}", json={"roles": roles}, headers=bearer(key))
        assert (answer.status_code, answer.json()["roles"]) == (200, roles)
        told = await api.get(f"/api/recipients/{NORTH}/{who}", headers=bearer(key))
        assert told.json()["roles"] == roles
    assert people(split, NORTH) == [(NORTH, "ada"), (NORTH, "ben")]
    for who in ("ada", "grace"):
        assert (await api.delete(f"/api/recipients/{NORTH}/{who}", headers=bearer(key))).status_code == 204
        again = await api.put(f"/api/recipients/{NORTH}/{who}", json={}, headers=bearer(key))
        assert again.status_code == 201
    assert people(split, NORTH) == [(NORTH, "ada"), (NORTH, "ben")]
    assert people(split, SHARED) == [(PLATFORM, "sam"), (NORTH, "grace"), (SOUTH, "hugo")]


async def test_a_bulk_import_puts_everybody_at_home(api: httpx.AsyncClient, key: str, split: Split) -> None:
    rows = [
        {"tenant": NORTH, "id": "dan", "roles": ["student"]},
        {"tenant": SOUTH, "id": "eva", "roles": ["university_admin"]},
        {"tenant": "nowhere", "id": "x"},
        {"tenant": PLATFORM, "id": "tom"},
        {"tenant": NORTH, "id": "ada", "locale": "de"},
    ]
    answer = await api.post("/api/recipients/bulk", json=rows, headers=bearer(key))
    told = answer.json()
    assert (told["created"], told["updated"], told["rejected"]) == (3, 1, 1)
    assert people(split, NORTH) == [(NORTH, "ada"), (NORTH, "ben"), (NORTH, "dan")]
    assert (SOUTH, "eva") in people(split, SHARED)
    assert (PLATFORM, "tom") in people(split, SHARED)
    assert people(split, SOUTH) == [(SOUTH, "cleo")]


async def test_a_topic_has_members_of_both_databases(api: httpx.AsyncClient, key: str, split: Split) -> None:
    for who in ("ada", "grace"):
        place = f"/api/topics/{NORTH}/course:rust/members/{who}"
        assert (await api.put(place, headers=bearer(key))).status_code == 204
    unknown = await api.put(f"/api/topics/{NORTH}/course:rust/members/nobody", headers=bearer(key))
    assert unknown.status_code == 404
    members = await api.get(f"/api/topics/{NORTH}/course:rust/members", headers=bearer(key))
    assert members.json() == {"members": ["ada", "grace"], "hasNextPage": False}
    data = {"course_id": "rust", "course_title": "Rust", "change": "moved"}
    await post(api, key, envelope("moved", tenant=NORTH, type="course.updated", data=data))
    work()
    told = split.told()
    assert told == {SHARED: [(NORTH, "grace", "course.updated")], NORTH: [(NORTH, "ada", "course.updated")], SOUTH: []}
    change = [{"tenant": NORTH, "topic": "course:rust", "recipient": who, "member": False} for who in ("ada", "grace")]
    answer = await api.post("/api/topics/bulk", json=change, headers=bearer(key))
    assert answer.json()["changed"] == 2


async def test_someone_elsewhere_whom_an_event_names_is_not_registered_a_second_time(
    api: httpx.AsyncClient, key: str, split: Split
) -> None:
    for who in ("grace", "newcomer"):
        await post(api, key, envelope(who, tenant=NORTH, type="grade.posted", data={**GRADE, "student_id": who}))
    work()
    assert people(split, NORTH) == [(NORTH, "ada"), (NORTH, "ben"), (NORTH, "newcomer")]
    told = split.told()
    assert (told[SHARED], told[NORTH]) == (
        [(NORTH, "grace", "grade.posted")],
        [(NORTH, "newcomer", "grade.posted")],
    )
    assert (await state(api, key, "grace"))["counts"]["notifications"] == 1


# --- forwards ---


async def test_an_event_tells_both_homes_and_its_counts_are_the_sum(
    api: httpx.AsyncClient, key: str, split: Split
) -> None:
    assert (await post(api, key, issued("e1"))).status_code == 202
    told = await state(api, key, "e1")
    assert (told["state"], told["counts"]["notifications"]) == ("accepted", 0)
    with working_in(NORTH):
        fan_out_pending()
    told = await state(api, key, "e1")
    assert (told["state"], told["counts"]["notifications"], told["finishedAt"]) == ("fanning_out", 1, None)
    work()
    told = await state(api, key, "e1")
    assert (told["state"], told["counts"]["recipients"], told["counts"]["notifications"]) == ("done", 2, 2)
    assert split.told() == {
        SHARED: [(NORTH, "grace", "certificate.issued")],
        NORTH: [(NORTH, "ada", "certificate.issued")],
        SOUTH: [],
    }
    assert (await post(api, key, issued("e1"))).json()["events"][0]["status"] == "duplicate"
    headers = {"authorization": f"Bearer {make_token(NORTH, 'grace')}"}
    assert (await api.post("/api/notifications/read-all", headers=headers)).json()["changed"] == 1
    assert (await state(api, key, "e1"))["counts"]["read"] == 1
    times = {name: split.rows(name, "SELECT accepted_at, derived FROM events") for name in (SHARED, NORTH)}
    assert times == {SHARED: [(times[NORTH][0][0], True)], NORTH: [(times[NORTH][0][0], False)]}


async def test_an_event_for_one_at_home_leaves_no_forward(api: httpx.AsyncClient, key: str, split: Split) -> None:
    await post(api, key, envelope("a", tenant=NORTH, type="grade.posted", data=GRADE))
    work()
    assert split.rows(NORTH, "SELECT count(*) FROM forwards") == [(0,)]
    assert (await state(api, key, "a"))["state"] == "done"


@pytest.mark.parametrize("killed", [True, False])
async def test_a_worker_killed_between_the_two_commits_loses_and_doubles_nothing(
    api: httpx.AsyncClient, key: str, split: Split, configured: dict[str, str], killed: bool
) -> None:
    """Pins the order of the commits: there first, then here. The other way round, the killed one's event is lost."""
    await post(api, key, issued("e1"))
    with working_in(NORTH):
        fan_out_pending()
    if killed:
        die_forwarding(NORTH, configured)
        assert split.rows(NORTH, "SELECT state FROM forwards") == [("pending",)]
        assert split.rows(SHARED, "SELECT id, derived FROM events") == [("e1", True)]
    work()
    work()
    assert split.rows(NORTH, "SELECT state FROM forwards") == [("done",)]
    assert split.told()[SHARED] == [(NORTH, "grace", "certificate.issued")]
    assert (await state(api, key, "e1"))["counts"]["notifications"] == 2


async def _cancel(api: httpx.AsyncClient, key: str, id: str) -> httpx.Response:
    return await api.delete(f"/api/events/{id}", params={"source": "/tests", "tenant": NORTH}, headers=bearer(key))


def withdraw(split: Split) -> None:
    """Withdraw what is being cancelled, as workers would."""
    for name in databases.names():
        with working_in(name):
            forward_pending()
            for (event,) in split.rows(name, "SELECT key FROM events WHERE state = 'cancelling'"):
                assert cancelling.withdraw(event)


@pytest.mark.parametrize("forwarded", [True, False])
async def test_a_cancel_withdraws_in_every_database(
    api: httpx.AsyncClient, key: str, split: Split, forwarded: bool
) -> None:
    await post(api, key, issued("e1"))
    with working_in(NORTH):
        fan_out_pending()
    if forwarded:
        work()
    answer = await _cancel(api, key, "e1")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    for _ in range(2):
        withdraw(split)
    assert split.told() == {SHARED: [], NORTH: [], SOUTH: []}
    assert split.rows(NORTH, "SELECT state FROM forwards") == [("done",)]
    assert (await state(api, key, "e1"))["state"] == "cancelled"
    assert (await _cancel(api, key, "e1")).status_code == 200
    work()
    assert split.told()[SHARED] == []


async def test_an_announcement_of_the_platform_reaches_everybody_everywhere(
    api: httpx.AsyncClient, key: str, split: Split
) -> None:
    data = {"title": "Holidays", "message": "Closed.", "audience": {"everyone": True}}
    await post(api, key, envelope("all", tenant=PLATFORM, type="system.announcement", data=data))
    await post(api, key, envelope("south", tenant=PLATFORM, type="system.announcement",
                                  data={**data, "audience": {"tenant": SOUTH}}))  # fmt: skip
    work()
    told = await state(api, key, "all", PLATFORM)
    assert (told["state"], told["counts"]["notifications"]) == ("done", 6)
    told = await state(api, key, "south", PLATFORM)
    assert (told["state"], told["counts"]["notifications"]) == ("done", 2)
    assert {name: len(rows) for name, rows in split.told().items()} == {SHARED: 4, NORTH: 2, SOUTH: 2}
    for name in databases.names():
        directory.assert_numbered_without_gaps(split.sessions[name])


async def test_a_batch_is_stored_in_one_database_or_refused(api: httpx.AsyncClient, key: str, split: Split) -> None:
    answer = await post(api, key, [issued("1"), issued("2", SOUTH), issued("3")], BATCHED)
    assert answer.status_code == 422
    assert errors_of(answer) == [(1, "tenant", "lives in another database than the first one's")]
    for name in databases.names():
        assert split.rows(name, "SELECT count(*) FROM events") == [(0,)]


async def test_a_large_audience_is_chunked_in_its_own_database(
    api: httpx.AsyncClient, key: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, tuple[Any, ...]]] = []
    monkeypatch.setattr("workers.chunks.send", lambda name, *args, **_: sent.append((name, args)))
    directory.add_recipients(split.sessions[NORTH], NORTH, [f"s{number}" for number in range(2_500)], roles=["student"])
    data = {"title": "Exams", "message": "Monday.", "audience": {"everyone": True}}
    await post(api, key, envelope("exams", tenant=NORTH, type="system.announcement", data=data))
    work()
    with working_in(NORTH):
        ((event, state_there),) = split.rows(NORTH, "SELECT key, state FROM events")
        assert state_there == "fanning_out"
        plan(event)
        for _, args in sent:
            run_chunk(*args)
    assert len(sent) == 2
    told = await state(api, key, "exams")
    assert (told["state"], told["counts"]["notifications"]) == ("done", 2_503)
    assert split.told()[SHARED] == [(NORTH, "grace", "system.announcement")]


# --- what belongs to all ---


async def test_the_server_is_ready_only_with_every_database(
    api: httpx.AsyncClient, split: Split, urls: dict[str, str]
) -> None:
    assert (await api.get("/readyz")).status_code == 200
    split.sessions[SOUTH].execute("UPDATE alembic_version SET version_num = '0004'")
    answer = await api.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, "migrations")


def test_the_epoch_is_one_number_over_all_databases(split: Split) -> None:
    from shared.cli.events import renew

    split.sessions[SOUTH].execute("UPDATE deployment SET epoch = 9999999999")
    renew()
    epochs = {split.rows(name, "SELECT epoch FROM deployment")[0][0] for name in databases.names()}
    assert epochs == {10_000_000_000}


async def test_what_is_done_in_a_tenants_database_is_told_in_its_audit_log_and_the_rest_in_the_shared_one(
    api: httpx.AsyncClient, key: str, split: Split
) -> None:
    await post(api, key, issued("e1"))
    cancelled = await api.delete(f"/api/events/e1?source=/tests&tenant={NORTH}", headers=bearer(key))
    deleted = [await api.delete(f"/api/recipients/{NORTH}/{who}", headers=bearer(key)) for who in ("ben", "grace")]
    assert [answer.status_code for answer in (cancelled, *deleted)] == [202, 204, 204]
    imported = await api.post("/api/recipients/bulk", json=[{"tenant": NORTH, "id": "dan"}], headers=bearer(key))
    assert imported.json()["created"] == 1
    query = "SELECT action, tenant, subject FROM audit_log ORDER BY key"
    prefix = prefix_of(key)
    assert {name: split.rows(name, query) for name in databases.names()} == {
        SHARED: [
            ("tenant.created", NORTH, None),
            ("tenant.created", SOUTH, None),
            ("key.created", None, prefix),
            ("recipient.deleted", NORTH, "grace"),
            ("directory.imported", None, "/api/recipients/bulk"),
        ],
        NORTH: [
            ("tenant.created", NORTH, None),
            ("event.cancelled", NORTH, "e1"),
            ("recipient.deleted", NORTH, "ben"),
        ],
        SOUTH: [("tenant.created", SOUTH, None)],
    }
    newest = [row["action"] for row in run_plan(audit.read_everywhere(3600, 4))]
    assert newest == ["directory.imported", "recipient.deleted", "recipient.deleted", "event.cancelled"]


# --- the whole, with real processes ---


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


async def test_a_database_that_does_not_answer_keeps_no_other_ones_streams_waiting(
    split: Split,
    key: str,
    urls: dict[str, str],
    new_api_server: Callable[..., ApiServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reads of the one wait for a lock, and those of homes are many: each streams' recipient is unknown there."""
    server = new_api_server(CARILLON_RECONCILE_SECONDS="0.3")
    monkeypatch.setattr("workers.fan_out.publish", lambda *_: 0)
    async with AsyncExitStack() as stack:
        for number in range(20):
            await stack.enter_async_context(Listener(server.url, make_token(NORTH, f"unknown-{number}")))
        cleo = await stack.enter_async_context(Listener(server.url, make_token(SOUTH, "cleo")))
        await cleo.count(1)
        blocking = stack.enter_context(psycopg.connect(urls[NORTH]))
        blocking.execute("LOCK TABLE inboxes, recipients_elsewhere IN ACCESS EXCLUSIVE MODE")
        eventually(lambda: split.rows(NORTH, "SELECT true FROM pg_locks WHERE NOT granted LIMIT 1"))
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            event = issued("e1", tenant=SOUTH, student_id="cleo")
            assert (await post(client, key, event)).status_code == 202
        with working_in(SOUTH):
            fan_out_pending()
        frames = await cleo.until(lambda told: told[-1].kind == "synced", within=20)
    assert [(frame.kind, frame.seq) for frame in frames] == [("connected", 0), ("changed", 1), ("synced", 1)]


def test_a_database_that_stands_still_keeps_the_jobs_of_no_other_waiting_and_is_worked_in_once_it_goes_on(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is stopped, or whose storage hangs, ends no statement: neither its timeout nor TCP's helps."""
    monkeypatch.setattr("workers.everywhere.STUCK_S", 3.0)
    goes_on, begun, worked = threading.Event(), list[str](), list[str]()

    def work() -> bool:
        begun.append(databases.current())
        if databases.current() == NORTH:
            goes_on.wait()
        worked.append(databases.current())
        return True

    for _ in range(2):
        assert in_every_database("carillon.sweep", work)
    assert worked == [SHARED, SOUTH, SHARED, SOUTH]
    # One thread waits for it, not one for each run.
    assert begun == [SHARED, NORTH, SOUTH, SHARED, SOUTH]
    goes_on.set()
    eventually(lambda: NORTH in worked)
    worked.clear()
    eventually(lambda: in_every_database("carillon.sweep", work) and NORTH in worked)
    assert set(worked) == set(databases.names())


def test_a_failure_of_a_job_in_one_database_is_told_and_one_that_is_away_is_passed_over(split: Split) -> None:
    def broken() -> None:
        if databases.current() == NORTH:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_every_database("carillon.sweep", broken)
    worked: list[str] = []

    def away() -> bool:
        if databases.current() == NORTH:
            raise OperationalError("SELECT 1", {}, psycopg.OperationalError())
        worked.append(databases.current())
        return databases.current() != SOUTH

    assert not in_every_database("carillon.sweep", away)
    assert worked == [SHARED, SOUTH]


async def test_a_database_that_stands_still_holds_up_no_forwards_to_others(
    api: httpx.AsyncClient, key: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its forwards, which come again every two seconds, take the lane's processes for a minute each."""
    monkeypatch.setattr("workers.everywhere.STUCK_S", 3.0)
    goes_on = threading.Event()

    def tell(target: str, rows: Any) -> None:
        if target == NORTH:
            goes_on.wait()
        tell_really(target, rows)

    tell_really = forwarding._tell
    monkeypatch.setattr("workers.forward._tell", tell)
    data = {"title": "Holidays", "message": "Closed.", "audience": {"everyone": True}}
    await post(api, key, envelope("all", tenant=PLATFORM, type="system.announcement", data=data))
    fan_out_pending()
    for _ in range(2):
        forward_pending()
    assert split.rows(SHARED, "SELECT database, state FROM forwards ORDER BY 1") == [
        (NORTH, "pending"),
        (SOUTH, "done"),
    ]
    goes_on.set()

    def everybody() -> bool:
        work()
        return {name: len(rows) for name, rows in split.told().items()} == {SHARED: 3, NORTH: 2, SOUTH: 1}

    eventually(everybody, within=30)
