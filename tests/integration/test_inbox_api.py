"""The inbox over real HTTP: each mutation is one change with one frame; list and badge agree in every answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.edge import Edge
from tests.person import TENANT, Person, person_of


@pytest.fixture
def settings_env(edge: Edge) -> dict[str, str]:
    """This process fans out what the API's database has."""
    return edge.environment


@pytest.fixture
def ada(configured: object, edge: Edge) -> Iterator[Person]:
    with person_of(edge) as person:
        yield person


@pytest.fixture
def eve(configured: object, edge: Edge) -> Iterator[Person]:
    with person_of(edge) as person:
        yield person


def test_an_unknown_recipient_sees_an_empty_inbox(configured: object, edge: Edge) -> None:
    with person_of(edge, registered=False) as nobody:
        empty = {
            "inbox": f"uni/{nobody.name}",
            "nodes": [],
            "pageInfo": {"hasNextPage": False, "endCursor": None},
            "totalCount": 0,
        }
        assert nobody.page() == {**empty, "unreadCount": 0, "unseenCount": 0, "cursor": "1-0"}
        assert nobody.http.patch("/notifications", json={"read": True}).json()["changed"] == 0
        assert nobody.changes("1-0")["changes"] == []


def test_a_page_is_newest_first_and_carries_counters_and_cursor(ada: Person) -> None:
    ada.notify(3)
    told = ada.page()
    assert [node["createdSeq"] for node in told["nodes"]] == [3, 2, 1]
    assert (told["totalCount"], told["unreadCount"], told["unseenCount"], told["cursor"]) == (3, 3, 3, "1-3")
    newest = told["nodes"][0]
    assert newest["type"] == "CERTIFICATE_VERIFIED"
    assert newest["metadata"]["badgeTitle"] == "Badge 3"
    assert (newest["tenant"], newest["read"], newest["seq"]) == (TENANT, False, 3)


def test_pages_stay_right_while_notifications_arrive(ada: Person) -> None:
    ada.notify(5)
    first = ada.page(first=2)
    ada.notify(2)
    second = ada.page(first=2, after=first["pageInfo"]["endCursor"])
    third = ada.page(first=2, after=second["pageInfo"]["endCursor"])
    seqs = [node["createdSeq"] for told in (first, second, third) for node in told["nodes"]]
    assert seqs == [5, 4, 3, 2, 1]
    assert [told["pageInfo"]["hasNextPage"] for told in (first, second, third)] == [True, True, False]


def test_filters_count_what_they_let_through(ada: Person) -> None:
    ada.notify(3)
    newest, middle, oldest = ada.ids()
    ada.http.patch(f"/notifications/{middle}", json={"read": True})
    ada.http.patch(f"/notifications/{oldest}", json={"archived": True})
    assert ada.ids() == [newest, middle]
    assert ada.ids(unread="true") == [newest]
    assert ada.ids(unread="false") == [middle]
    assert ada.ids(archived="true") == [oldest]
    assert ada.page(unread="true")["totalCount"] == 1
    assert ada.page(archived="true")["totalCount"] == 1
    assert ada.ids(type="CERTIFICATE_VERIFIED") == [newest, middle]
    assert ada.ids(type="GRADE_POSTED") == []
    assert ada.ids(category="certificate", priority=ada.page()["nodes"][0]["priority"]) == [newest, middle]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"first": "0"}, "first"),
        ({"first": "101"}, "first"),
        ({"first": "many"}, "first"),
        ({"after": "1-2"}, "after"),
        ({"unread": "maybe"}, "unread"),
        ({"type": "NO_SUCH"}, "type"),
        ({"category": "none"}, "category"),
        ({"priority": "urgent"}, "priority"),
    ],
)
def test_a_wrong_parameter_is_named(ada: Person, query: dict[str, str], field: str) -> None:
    answer = ada.http.get("/notifications", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_the_parameter_role_is_ignored(ada: Person) -> None:
    assert ada.http.get("/notifications", params={"role": "super_admin"}).status_code == 200


def test_reading_one_is_one_change_and_again_is_none(ada: Person) -> None:
    ada.notify(2)
    ada.frames()
    one = ada.ids()[0]
    told = ada.http.patch(f"/notifications/{one}", json={"read": True}).json()
    assert (told["read"], told["seq"], told["createdSeq"]) == (True, 3, 2)
    assert (told["unreadCount"], told["unseenCount"], told["cursor"]) == (1, 1, "1-3")
    again = ada.http.patch(f"/notifications/{one}", json={"read": True, "seen": True}).json()
    assert (again["readAt"], again["cursor"]) == (told["readAt"], "1-3")
    frame = {"id": "1-3", "prev": 2, "type": "read", "notificationId": one, "readAt": told["readAt"],
             "seenAt": told["seenAt"], "archivedAt": None, "unreadCount": 1, "unseenCount": 1}  # fmt: skip
    assert ada.frames() == [frame]


def test_twenty_marks_at_once_take_twenty_numbers_and_empty_the_badge(ada: Person) -> None:
    """Fails when an inbox is read without its lock: two changes would take one number, and counters be wrong (I3)."""
    many = 20
    ada.notify(many)
    ada.frames()
    with ThreadPoolExecutor(many) as threads:
        answers = list(
            threads.map(lambda id: ada.http.patch(f"/notifications/{id}", json={"read": True}).json(), ada.ids())
        )
    expected = list(range(many + 1, 2 * many + 1))
    assert sorted(answer["seq"] for answer in answers) == expected
    assert sorted(answer["unreadCount"] for answer in answers) == list(range(many))
    assert sorted(int(frame["id"].split("-")[1]) for frame in ada.frames()) == expected
    shown = ada.page()
    assert sorted(node["seq"] for node in shown["nodes"]) == expected
    assert (shown["unreadCount"], shown["cursor"]) == (0, f"1-{2 * many}")


def test_each_mark_and_its_inverse(ada: Person) -> None:
    ada.notify(1)
    ada.frames()
    one = ada.ids()[0]
    steps: list[tuple[dict[str, bool], tuple[int, int]]] = [
        ({"seen": True}, (1, 0)),
        ({"read": True}, (0, 0)),
        ({"read": False}, (1, 0)),
        ({"archived": True}, (0, 0)),
        ({"archived": False}, (0, 0)),
        ({"read": False, "archived": True, "seen": True}, (0, 0)),
    ]
    for body, counters in steps[:-1]:
        told = ada.http.patch(f"/notifications/{one}", json=body).json()
        assert (told["unreadCount"], told["unseenCount"]) == counters, body
        assert ada.page()["unreadCount"] == counters[0]
    told_types = [frame["type"] for frame in ada.frames()]
    assert told_types == ["seen", "read", "unread", "archived", "unarchived"]
    assert ada.http.patch(f"/notifications/{one}", json=steps[-1][0]).status_code == 422


def test_an_archived_notification_is_not_made_unread(ada: Person) -> None:
    ada.notify(1)
    one = ada.ids()[0]
    ada.http.patch(f"/notifications/{one}", json={"archived": True})
    assert ada.http.patch(f"/notifications/{one}", json={"read": False}).status_code == 409
    both = ada.http.patch(f"/notifications/{one}", json={"read": False, "archived": False}).json()
    assert (both["read"], both["archivedAt"], both["unreadCount"], both["cursor"]) == (False, None, 1, "1-3")


@pytest.mark.parametrize("call", ["patch", "read-all"])
def test_reading_all_up_to_a_cursor_leaves_what_was_not_shown(ada: Person, call: str) -> None:
    ada.notify(2)
    shown = ada.page()["cursor"]
    ada.notify(1)
    ada.frames()
    if call == "patch":
        answer = ada.http.patch("/notifications", json={"read": True, "upTo": shown})
    else:
        answer = ada.http.post("/notifications/read-all", json={"upTo": shown})
    assert answer.json() == {"changed": 2, "unreadCount": 1, "unseenCount": 1, "cursor": "1-4"}
    nodes = ada.page()["nodes"]
    assert [node["read"] for node in nodes] == [False, True, True]
    assert [(f["type"], f["prev"], f["upTo"], f["readAt"]) for f in ada.frames()] == [
        ("read_all", 3, "1-2", nodes[1]["readAt"])
    ]
    assert ada.http.post("/notifications/read-all", json={"upTo": shown}).json()["changed"] == 0
    assert ada.http.post("/notifications/read-all").json() == {
        "changed": 1,
        "unreadCount": 0,
        "unseenCount": 0,
        "cursor": "1-5",
    }


def test_seeing_all_empties_the_badge_of_the_bell_alone(ada: Person) -> None:
    ada.notify(3)
    told = ada.http.patch("/notifications", json={"seen": True}).json()
    assert told == {"changed": 3, "unreadCount": 3, "unseenCount": 0, "cursor": "1-4"}


def test_deleting_the_read_ones_leaves_unread_and_archived(ada: Person) -> None:
    ada.notify(3)
    newest, middle, oldest = ada.ids()
    ada.http.patch(f"/notifications/{middle}", json={"read": True})
    ada.http.patch(f"/notifications/{oldest}", json={"archived": True})
    ada.frames()
    told = ada.http.delete("/notifications", params={"read": "true", "upTo": ada.page()["cursor"]}).json()
    assert told == {"changed": 1, "unreadCount": 1, "unseenCount": 1, "cursor": "1-6"}
    assert (ada.ids(), ada.ids(archived="true")) == ([newest], [oldest])
    assert [(f["type"], f["upTo"]) for f in ada.frames()] == [("deleted_read", "1-5")]
    assert ada.http.delete("/notifications").status_code == 422


def test_deleting_one_is_for_good(ada: Person) -> None:
    ada.notify(2)
    ada.frames()
    one = ada.ids()[0]
    told = ada.http.delete(f"/notifications/{one}").json()
    assert told == {"id": one, "deleted": True, "unreadCount": 1, "unseenCount": 1, "cursor": "1-3"}
    assert [(f["type"], f["reason"], f["notificationId"]) for f in ada.frames()] == [("deleted", "user", one)]
    assert {call(f"/notifications/{one}").status_code for call in (ada.http.get, ada.http.delete)} == {404}
    assert ada.http.patch(f"/notifications/{one}", json={"read": True}).status_code == 404
    assert ada.page()["totalCount"] == 1


def test_another_recipients_notification_is_like_one_that_does_not_exist(ada: Person, eve: Person) -> None:
    ada.notify(1)
    one = ada.ids()[0]
    unknown = "01234567-89ab-8def-8123-456789abcdef"
    for name in (one, unknown, "no-uuid"):
        for answer in (
            eve.http.get(f"/notifications/{name}"),
            eve.http.patch(f"/notifications/{name}", json={"read": True}),
            eve.http.delete(f"/notifications/{name}"),
        ):
            assert answer.status_code == 404
            assert answer.json()["detail"] == "There is no such notification."
    assert ada.page()["unreadCount"] == 1


def test_changes_tell_each_changed_row_once_in_its_present_state(ada: Person) -> None:
    ada.notify(3)
    newest, middle, oldest = ada.ids()
    ada.http.patch(f"/notifications/{newest}", json={"read": True})
    ada.http.delete(f"/notifications/{middle}")
    ada.http.patch("/notifications", json={"read": True})
    told = ada.changes("1-2")
    assert [(s["id"], s["prev"], [n["id"] for n in s["notifications"]], s["deletedIds"]) for s in told["changes"]] == [
        ("1-4", 2, [newest], []),
        ("1-5", 4, [], [middle]),
        ("1-6", 5, [oldest], []),
    ]
    assert (told["cursor"], told["reset"], told["hasMore"], told["unreadCount"]) == ("1-6", False, False, 0)


@pytest.mark.parametrize("since", ["2-1", "1-9", "0-0"])
def test_a_cursor_that_cannot_be_served_whole_is_a_reset(ada: Person, since: str) -> None:
    ada.notify(2)
    told = ada.changes(since)
    assert (told["changes"], told["reset"], told["cursor"]) == ([], True, "1-2")


def test_the_floor_itself_is_valid_and_below_it_is_a_reset(ada: Person) -> None:
    ada.notify(3)
    ada.put(floor_seq=2)
    resets = [ada.changes(f"1-{seq}")["reset"] for seq in (1, 2, 3)]
    assert resets == [True, False, False]


def test_more_than_500_changes_behind_is_a_reset(ada: Person) -> None:
    ada.notify(1)
    ada.put(seq=502)
    resets = [ada.changes(f"1-{seq}")["reset"] for seq in (1, 2)]
    assert resets == [True, False]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ("{}", "", "name at least one of read, seen, archived"),
        ("[]", "", "must be an object"),
        ('{"read":1}', "read", "must be a valid boolean"),
    ],
)
def test_what_is_wrong_with_a_body_is_told_in_words_of_the_interface(
    ada: Person, body: str, field: str, message: str
) -> None:
    answer = ada.http.patch("/notifications/no-uuid", content=body, headers={"content-type": "application/json"})
    assert answer.json()["errors"] == [{"field": field, "message": message}]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{}", 422),
        ('{"read":"true"}', 422),
        ('{"read":1}', 422),
        ('{"seen":false}', 422),
        ('{"read":true,"more":1}', 422),
        ('{"archived":true,"read":false}', 422),
        ("[]", 422),
        ('"x"', 422),
        ("{", 400),
        ("null", 422),
        ("x" * 5000, 413),
    ],
)
def test_a_wrong_body_changes_nothing(ada: Person, body: str, status: int) -> None:
    ada.notify(1)
    one = ada.ids()[0]
    answer = ada.http.patch(f"/notifications/{one}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert ada.page()["cursor"] == "1-1"


def test_a_body_of_another_kind_is_415(ada: Person) -> None:
    ada.notify(1)
    answer = ada.http.patch(
        f"/notifications/{ada.ids()[0]}", content="read=true", headers={"content-type": "text/plain"}
    )
    assert answer.status_code == 415
    assert ada.page()["unreadCount"] == 1


def test_without_a_token_nothing_is_told(edge: Edge) -> None:
    for path in ("", "/unread-count", "/changes?since=1-0", "/x"):
        answer = httpx.get(f"{edge.server.url}/api/notifications{path}")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["cache-control"] == "no-store"
