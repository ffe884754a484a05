"""Where somebody is at home when a university has a database of its own, and what is said to either home."""

from __future__ import annotations

import httpx

from shared.databases import SHARED
from tests.producers import bearer, envelope, post
from tests.universities import GRADE, NORTH, PLATFORM, SOUTH, Split, people, state, work


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
