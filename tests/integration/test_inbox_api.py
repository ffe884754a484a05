"""The inbox over real HTTP: each mutation is one change with one frame; list and badge agree in every answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
import redis
from httpx_sse._decoders import SSEDecoder

from shared.frames import channel_of
from shared.tokens import make_token
from tests.servers import ApiServer
from workers.fan_out import fan_out_pending

TENANT, WHO = "uni", "ada"
Client = httpx.Client


@pytest.fixture
def database(configured: dict[str, str]) -> Iterator[psycopg.Connection]:
    with psycopg.connect(configured["CARILLON_DATABASE_URL"], autocommit=True) as connection:
        connection.execute("INSERT INTO tenants (id) VALUES (%s)", (TENANT,))
        for person in (WHO, "eve"):
            row = connection.execute(
                "INSERT INTO inboxes (tenant, recipient) VALUES (%s, %s) RETURNING key", (TENANT, person)
            ).fetchone()
            assert row is not None
            connection.execute("INSERT INTO recipients (key, tenant, id) VALUES (%s, %s, %s)", (row[0], TENANT, person))
        yield connection


@pytest.fixture
def notify(database: psycopg.Connection) -> Callable[..., None]:
    """Make notifications as producers and workers do: `notify(3)`, `notify(1, "grade.posted", …)`."""
    made = 0

    def make(count: int = 1, who: str = WHO) -> None:
        nonlocal made
        for _ in range(count):
            made += 1
            event = {
                "specversion": "1.0",
                "id": f"e{made}",
                "source": "/test",
                "type": "certificate.verified",
                "tenant": TENANT,
                "data": {"student_id": who, "certificate_id": f"c{made}", "badge_title": f"Badge {made}"},
            }
            database.execute("SELECT carillon_publish(%s)", (json.dumps(event),))
            fan_out_pending()

    return make


def client_of(server: ApiServer, who: str) -> Client:
    token = make_token(TENANT, who, ["student"])
    return httpx.Client(base_url=f"{server.url}/api", headers={"authorization": f"Bearer {token}"})


@pytest.fixture
def ada(database: psycopg.Connection, api_server: ApiServer) -> Iterator[Client]:
    with client_of(api_server, WHO) as client:
        yield client


@pytest.fixture
def eve(database: psycopg.Connection, api_server: ApiServer) -> Iterator[Client]:
    with client_of(api_server, "eve") as client:
        yield client


@pytest.fixture
def frames(configured: dict[str, str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Hear what is published for Ada from now on: each call returns the frames since the last one."""
    with redis.Redis.from_url(configured["CARILLON_REDIS_URL"]) as client, client.pubsub() as heard:
        heard.subscribe(channel_of(TENANT, WHO))
        assert (heard.get_message(timeout=5) or {})["type"] == "subscribe"

        def take() -> list[dict[str, Any]]:
            told = []
            while (message := heard.get_message(timeout=0.3)) is not None:
                decoder = SSEDecoder()
                event = next(e for line in message["data"].decode().split("\n") if (e := decoder.decode(line)))
                told.append({"id": event.id, **json.loads(event.data)})
            return told

        yield take


def page(client: Client, **query: Any) -> dict[str, Any]:
    answer = client.get("/notifications", params=query)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def ids(client: Client, **query: Any) -> list[str]:
    return [node["id"] for node in page(client, **query)["nodes"]]


def test_an_unknown_recipient_sees_an_empty_inbox(database: psycopg.Connection, api_server: ApiServer) -> None:
    with client_of(api_server, "nobody-yet") as client:
        empty = {
            "inbox": "uni/nobody-yet",
            "nodes": [],
            "pageInfo": {"hasNextPage": False, "endCursor": None},
            "totalCount": 0,
        }
        assert page(client) == {**empty, "unreadCount": 0, "unseenCount": 0, "cursor": "1-0"}
        assert client.patch("/notifications", json={"read": True}).json()["changed"] == 0
        assert client.get("/notifications/changes", params={"since": "1-0"}).json()["changes"] == []


def test_a_page_is_newest_first_and_carries_counters_and_cursor(ada: Client, notify: Callable[..., None]) -> None:
    notify(3)
    told = page(ada)
    assert [node["createdSeq"] for node in told["nodes"]] == [3, 2, 1]
    assert (told["totalCount"], told["unreadCount"], told["unseenCount"], told["cursor"]) == (3, 3, 3, "1-3")
    newest = told["nodes"][0]
    assert newest["type"] == "CERTIFICATE_VERIFIED"
    assert newest["metadata"]["badgeTitle"] == "Badge 3"
    assert (newest["tenant"], newest["read"], newest["seq"]) == (TENANT, False, 3)


def test_pages_stay_right_while_notifications_arrive(ada: Client, notify: Callable[..., None]) -> None:
    notify(5)
    first = page(ada, first=2)
    notify(2)
    second = page(ada, first=2, after=first["pageInfo"]["endCursor"])
    third = page(ada, first=2, after=second["pageInfo"]["endCursor"])
    seqs = [node["createdSeq"] for told in (first, second, third) for node in told["nodes"]]
    assert seqs == [5, 4, 3, 2, 1]
    assert [told["pageInfo"]["hasNextPage"] for told in (first, second, third)] == [True, True, False]


def test_filters_count_what_they_let_through(ada: Client, notify: Callable[..., None]) -> None:
    notify(3)
    newest, middle, oldest = ids(ada)
    ada.patch(f"/notifications/{middle}", json={"read": True})
    ada.patch(f"/notifications/{oldest}", json={"archived": True})
    assert ids(ada) == [newest, middle]
    assert ids(ada, unread="true") == [newest]
    assert ids(ada, unread="false") == [middle]
    assert ids(ada, archived="true") == [oldest]
    assert page(ada, unread="true")["totalCount"] == 1
    assert page(ada, archived="true")["totalCount"] == 1
    assert ids(ada, type="CERTIFICATE_VERIFIED") == [newest, middle]
    assert ids(ada, type="GRADE_POSTED") == []
    assert ids(ada, category="certificate", priority=page(ada)["nodes"][0]["priority"]) == [newest, middle]


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
def test_a_wrong_parameter_is_named(ada: Client, query: dict[str, str], field: str) -> None:
    answer = ada.get("/notifications", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_the_parameter_role_is_ignored(ada: Client) -> None:
    assert ada.get("/notifications", params={"role": "super_admin"}).status_code == 200


def test_reading_one_is_one_change_and_again_is_none(
    ada: Client, notify: Callable[..., None], frames: Callable[[], list[dict[str, Any]]]
) -> None:
    notify(2)
    frames()
    one = ids(ada)[0]
    told = ada.patch(f"/notifications/{one}", json={"read": True}).json()
    assert (told["read"], told["seq"], told["createdSeq"]) == (True, 3, 2)
    assert (told["unreadCount"], told["unseenCount"], told["cursor"]) == (1, 1, "1-3")
    again = ada.patch(f"/notifications/{one}", json={"read": True, "seen": True}).json()
    assert (again["readAt"], again["cursor"]) == (told["readAt"], "1-3")
    frame = {"id": "1-3", "prev": 2, "type": "read", "notificationId": one, "readAt": told["readAt"],
             "seenAt": told["seenAt"], "archivedAt": None, "unreadCount": 1, "unseenCount": 1}  # fmt: skip
    assert frames() == [frame]


def test_twenty_marks_at_once_take_twenty_numbers_and_empty_the_badge(
    ada: Client, notify: Callable[..., None], frames: Callable[[], list[dict[str, Any]]]
) -> None:
    """Fails when an inbox is read without its lock: two changes would take one number, and counters be wrong (I3)."""
    many = 20
    notify(many)
    frames()
    with ThreadPoolExecutor(many) as threads:
        answers = list(threads.map(lambda id: ada.patch(f"/notifications/{id}", json={"read": True}).json(), ids(ada)))
    expected = list(range(many + 1, 2 * many + 1))
    assert sorted(answer["seq"] for answer in answers) == expected
    assert sorted(answer["unreadCount"] for answer in answers) == list(range(many))
    assert sorted(int(frame["id"].split("-")[1]) for frame in frames()) == expected
    shown = page(ada)
    assert sorted(node["seq"] for node in shown["nodes"]) == expected
    assert (shown["unreadCount"], shown["cursor"]) == (0, f"1-{2 * many}")


def test_each_mark_and_its_inverse(
    ada: Client, notify: Callable[..., None], frames: Callable[[], list[dict[str, Any]]]
) -> None:
    notify(1)
    frames()
    one = ids(ada)[0]
    steps: list[tuple[dict[str, bool], tuple[int, int]]] = [
        ({"seen": True}, (1, 0)),
        ({"read": True}, (0, 0)),
        ({"read": False}, (1, 0)),
        ({"archived": True}, (0, 0)),
        ({"archived": False}, (0, 0)),
        ({"read": False, "archived": True, "seen": True}, (0, 0)),
    ]
    for body, counters in steps[:-1]:
        told = ada.patch(f"/notifications/{one}", json=body).json()
        assert (told["unreadCount"], told["unseenCount"]) == counters, body
        assert page(ada)["unreadCount"] == counters[0]
    told_types = [frame["type"] for frame in frames()]
    assert told_types == ["seen", "read", "unread", "archived", "unarchived"]
    assert ada.patch(f"/notifications/{one}", json=steps[-1][0]).status_code == 422


def test_an_archived_notification_is_not_made_unread(ada: Client, notify: Callable[..., None]) -> None:
    notify(1)
    one = ids(ada)[0]
    ada.patch(f"/notifications/{one}", json={"archived": True})
    assert ada.patch(f"/notifications/{one}", json={"read": False}).status_code == 409
    both = ada.patch(f"/notifications/{one}", json={"read": False, "archived": False}).json()
    assert (both["read"], both["archivedAt"], both["unreadCount"], both["cursor"]) == (False, None, 1, "1-3")


@pytest.mark.parametrize("call", ["patch", "read-all"])
def test_reading_all_up_to_a_cursor_leaves_what_was_not_shown(
    ada: Client, notify: Callable[..., None], frames: Callable[[], list[dict[str, Any]]], call: str
) -> None:
    notify(2)
    shown = page(ada)["cursor"]
    notify(1)
    frames()
    if call == "patch":
        answer = ada.patch("/notifications", json={"read": True, "upTo": shown})
    else:
        answer = ada.post("/notifications/read-all", json={"upTo": shown})
    assert answer.json() == {"changed": 2, "unreadCount": 1, "unseenCount": 1, "cursor": "1-4"}
    nodes = page(ada)["nodes"]
    assert [node["read"] for node in nodes] == [False, True, True]
    assert [(f["type"], f["prev"], f["upTo"], f["readAt"]) for f in frames()] == [
        ("read_all", 3, "1-2", nodes[1]["readAt"])
    ]
    assert ada.post("/notifications/read-all", json={"upTo": shown}).json()["changed"] == 0
    assert ada.post("/notifications/read-all").json() == {
        "changed": 1,
        "unreadCount": 0,
        "unseenCount": 0,
        "cursor": "1-5",
    }


def test_seeing_all_empties_the_badge_of_the_bell_alone(ada: Client, notify: Callable[..., None]) -> None:
    notify(3)
    told = ada.patch("/notifications", json={"seen": True}).json()
    assert told == {"changed": 3, "unreadCount": 3, "unseenCount": 0, "cursor": "1-4"}


def test_deleting_the_read_ones_leaves_unread_and_archived(
    ada: Client, notify: Callable[..., None], frames: Callable[[], list[dict[str, Any]]]
) -> None:
    notify(3)
    newest, middle, oldest = ids(ada)
    ada.patch(f"/notifications/{middle}", json={"read": True})
    ada.patch(f"/notifications/{oldest}", json={"archived": True})
    frames()
    told = ada.delete("/notifications", params={"read": "true", "upTo": page(ada)["cursor"]}).json()
    assert told == {"changed": 1, "unreadCount": 1, "unseenCount": 1, "cursor": "1-6"}
    assert (ids(ada), ids(ada, archived="true")) == ([newest], [oldest])
    assert [(f["type"], f["upTo"]) for f in frames()] == [("deleted_read", "1-5")]
    assert ada.delete("/notifications").status_code == 422


def test_deleting_one_is_for_good(
    ada: Client, notify: Callable[..., None], frames: Callable[[], list[dict[str, Any]]]
) -> None:
    notify(2)
    frames()
    one = ids(ada)[0]
    told = ada.delete(f"/notifications/{one}").json()
    assert told == {"id": one, "deleted": True, "unreadCount": 1, "unseenCount": 1, "cursor": "1-3"}
    assert [(f["type"], f["reason"], f["notificationId"]) for f in frames()] == [("deleted", "user", one)]
    assert {call(f"/notifications/{one}").status_code for call in (ada.get, ada.delete)} == {404}
    assert ada.patch(f"/notifications/{one}", json={"read": True}).status_code == 404
    assert page(ada)["totalCount"] == 1


def test_another_recipients_notification_is_like_one_that_does_not_exist(
    ada: Client, eve: Client, notify: Callable[..., None]
) -> None:
    notify(1)
    one = ids(ada)[0]
    unknown = "01234567-89ab-8def-8123-456789abcdef"
    for name in (one, unknown, "no-uuid"):
        for answer in (
            eve.get(f"/notifications/{name}"),
            eve.patch(f"/notifications/{name}", json={"read": True}),
            eve.delete(f"/notifications/{name}"),
        ):
            assert answer.status_code == 404
            assert answer.json()["detail"] == "There is no such notification."
    assert page(ada)["unreadCount"] == 1


def test_changes_tell_each_changed_row_once_in_its_present_state(ada: Client, notify: Callable[..., None]) -> None:
    notify(3)
    newest, middle, oldest = ids(ada)
    ada.patch(f"/notifications/{newest}", json={"read": True})
    ada.delete(f"/notifications/{middle}")
    ada.patch("/notifications", json={"read": True})
    told = ada.get("/notifications/changes", params={"since": "1-2"}).json()
    assert [(s["id"], s["prev"], [n["id"] for n in s["notifications"]], s["deletedIds"]) for s in told["changes"]] == [
        ("1-4", 2, [newest], []),
        ("1-5", 4, [], [middle]),
        ("1-6", 5, [oldest], []),
    ]
    assert (told["cursor"], told["reset"], told["hasMore"], told["unreadCount"]) == ("1-6", False, False, 0)


@pytest.mark.parametrize("since", ["2-1", "1-9", "0-0"])
def test_a_cursor_that_cannot_be_served_whole_is_a_reset(ada: Client, notify: Callable[..., None], since: str) -> None:
    notify(2)
    told = ada.get("/notifications/changes", params={"since": since}).json()
    assert (told["changes"], told["reset"], told["cursor"]) == ([], True, "1-2")


def test_the_floor_itself_is_valid_and_below_it_is_a_reset(
    ada: Client, notify: Callable[..., None], database: psycopg.Connection
) -> None:
    notify(3)
    database.execute("UPDATE inboxes SET floor_seq = 2 WHERE recipient = %s", (WHO,))
    resets = [ada.get("/notifications/changes", params={"since": f"1-{seq}"}).json()["reset"] for seq in (1, 2, 3)]
    assert resets == [True, False, False]


def test_more_than_500_changes_behind_is_a_reset(
    ada: Client, notify: Callable[..., None], database: psycopg.Connection
) -> None:
    notify(1)
    database.execute("UPDATE inboxes SET seq = 502 WHERE recipient = %s", (WHO,))
    resets = [ada.get("/notifications/changes", params={"since": f"1-{seq}"}).json()["reset"] for seq in (1, 2)]
    assert resets == [True, False]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ("{}", "", "name at least one of read, seen, archived"),
        ("[]", "", "must be an object"),
        ('{"read":1}', "read", "Input should be a valid boolean"),
    ],
)
def test_what_is_wrong_with_a_body_is_told_in_words_of_the_interface(
    ada: Client, body: str, field: str, message: str
) -> None:
    answer = ada.patch("/notifications/no-uuid", content=body, headers={"content-type": "application/json"})
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
def test_a_wrong_body_changes_nothing(ada: Client, notify: Callable[..., None], body: str, status: int) -> None:
    notify(1)
    one = ids(ada)[0]
    answer = ada.patch(f"/notifications/{one}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert page(ada)["cursor"] == "1-1"


def test_a_body_of_another_kind_is_415(ada: Client, notify: Callable[..., None]) -> None:
    notify(1)
    answer = ada.patch(f"/notifications/{ids(ada)[0]}", content="read=true", headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    assert page(ada)["unreadCount"] == 1


def test_without_a_token_nothing_is_told(api_server: ApiServer) -> None:
    for path in ("", "/unread-count", "/changes?since=1-0", "/x"):
        answer = httpx.get(f"{api_server.url}/api/notifications{path}")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["cache-control"] == "no-store"
