"""The filters of a page and the counts by category: alone, combined, with several values, and while others arrive."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg
import pytest

from shared.tokens import make_token
from tests.directory import Row
from tests.inboxes import DATA, TENANT, WHO, Publish
from tests.producers import counted_statements


async def page(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/api/notifications", params=query)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def shown(client: httpx.AsyncClient, **query: Any) -> list[int]:
    """Return the createdSeq of what the page shows; its total must be the same number."""
    told = await page(client, **query)
    assert told["totalCount"] == len(told["nodes"])
    return [node["createdSeq"] for node in told["nodes"]]


async def test_several_values_of_a_filter_are_alternatives_and_filters_are_combined(
    ada: httpx.AsyncClient, publish: Publish
) -> None:
    for type in DATA:
        publish(type)
    assert await shown(ada, type=["GRADE_POSTED", "payment.due"]) == [4, 3]
    assert await shown(ada, category=["ticket", "grade"]) == [3, 1]
    assert await shown(ada, priority=["LOW", "HIGH"]) == [5, 4, 3, 2, 1]
    assert await shown(ada, priority="LOW") == [5]
    assert await shown(ada, type=["GRADE_POSTED", "TICKET_ASSIGNED"], category=["ticket", "payment"]) == [1]
    assert await shown(ada, type="GRADE_POSTED", category="ticket") == []
    first = (await page(ada, type="TICKET_ASSIGNED"))["nodes"][0]["id"]
    await ada.patch(f"/api/notifications/{first}", json={"read": True})
    assert await shown(ada, category=["ticket", "mention"], unread="true", priority="HIGH") == [2]
    assert await shown(ada, category=["ticket", "mention"], unread="false", metadata='{"ticketId":"7"}') == [1]


async def test_metadata_must_contain_what_is_asked_for_in_its_own_type(
    ada: httpx.AsyncClient, publish: Publish
) -> None:
    publish("ticket.assigned")
    publish("ticket.assigned", ticket_id="8")
    publish("mention.created")
    assert await shown(ada, metadata='{"ticketId":"7"}') == [3, 1]
    assert await shown(ada, metadata='{"ticketId":"7","commentId":"c"}') == [3]
    assert await shown(ada, metadata='{"ticketId":7}') == []
    assert await shown(ada, metadata='{"noSuch":null}') == []
    assert await shown(ada, metadata="{}") == [3, 2, 1]
    assert await shown(ada, metadata='{"ticketId":"7"}', type="TICKET_ASSIGNED") == [1]


async def test_a_range_of_time_has_its_first_moment_and_not_its_last(
    ada: httpx.AsyncClient, publish: Publish, db: psycopg.Connection[Row]
) -> None:
    for hour in (10, 11, 12):
        publish("grade.posted")
        db.execute(
            "UPDATE notifications SET created_at = make_timestamptz(2026, 3, 1, %s, 0, 0, 'UTC') WHERE ordinal = %s",
            (hour, hour - 9),
        )
    assert await shown(ada, createdFrom="2026-03-01T11:00:00Z") == [3, 2]
    assert await shown(ada, createdBefore="2026-03-01T11:00:00Z") == [1]
    assert await shown(ada, createdFrom="2026-03-01T12:00:00+01:00", createdBefore="2026-03-01T12:00:00Z") == [2]
    assert await shown(ada, createdFrom="2026-03-02T00:00:00Z") == []


async def test_a_filtered_page_stays_right_while_others_arrive(ada: httpx.AsyncClient, publish: Publish) -> None:
    for _ in range(3):
        publish("grade.posted")
        publish("payment.due")
    asked = {"category": "grade", "metadata": '{"courseId":"c1"}', "first": 1}
    seen: list[int] = []
    after: dict[str, str] = {}
    for left in (True, True, False):
        told = await page(ada, **asked, **after)
        seen += [node["createdSeq"] for node in told["nodes"]]
        assert told["pageInfo"]["hasNextPage"] is left
        after = {"after": told["pageInfo"]["endCursor"]}
        publish("grade.posted")
    assert seen == [5, 3, 1]
    assert (await page(ada, **asked, **after))["nodes"] == []


async def test_a_page_goes_on_behind_a_row_that_was_deleted_or_archived(
    ada: httpx.AsyncClient, publish: Publish
) -> None:
    for _ in range(4):
        publish("grade.posted")
    told = await page(ada, first=2)
    for node, call in zip(told["nodes"], ("delete", "archive"), strict=True):
        if call == "delete":
            await ada.delete(f"/api/notifications/{node['id']}")
        else:
            await ada.patch(f"/api/notifications/{node['id']}", json={"archived": True})
    rest = await page(ada, first=2, after=told["pageInfo"]["endCursor"])
    assert [node["createdSeq"] for node in rest["nodes"]] == [2, 1]


async def test_the_counts_by_category_sum_up_to_the_badge_in_one_statement(
    ada: httpx.AsyncClient, publish: Publish
) -> None:
    for type in ("ticket.assigned", "ticket.assigned", "mention.created", "grade.posted", "payment.due"):
        publish(type)
    nodes = (await page(ada))["nodes"]
    ticket, mention, grade, payment = (
        next(node["id"] for node in nodes if node["category"] == name)
        for name in ("ticket", "mention", "grade", "payment")
    )
    await ada.patch(f"/api/notifications/{ticket}", json={"seen": True})
    await ada.patch(f"/api/notifications/{mention}", json={"archived": True})
    await ada.patch(f"/api/notifications/{grade}", json={"read": True})
    await ada.delete(f"/api/notifications/{payment}")
    with counted_statements() as statements:
        told = (await ada.get("/api/notifications/unread-count", params={"by": "category"})).json()
    assert len(statements) == 1
    assert told == {
        "unreadCount": 2,
        "unseenCount": 1,
        "cursor": "1-9",
        "byCategory": {"ticket": {"unreadCount": 2, "unseenCount": 1}},
    }
    plain = (await ada.get("/api/notifications/unread-count")).json()
    assert plain == {name: told[name] for name in ("unreadCount", "unseenCount", "cursor")}


async def test_an_empty_and_an_unknown_inbox_have_no_categories(ada: httpx.AsyncClient, publish: Publish) -> None:
    for person in (WHO, "nobody-yet"):
        headers = {"authorization": f"Bearer {make_token(TENANT, person)}"}
        answer = await ada.get("/api/notifications/unread-count?by=category", headers=headers)
        assert answer.json() == {"unreadCount": 0, "unseenCount": 0, "cursor": "1-0", "byCategory": {}}


NO_TIME = "must be a time as RFC 3339 writes it: 2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("type=GRADE_POSTED&type=NO_SUCH", "type", "is not a type of the catalog"),
        ("category=grade&category=", "category", "is not a category of the catalog"),
        ("priority=LOW&priority=low", "priority", "must be 'LOW', 'NORMAL', 'HIGH' or 'URGENT'"),
        ("&".join(["type=GRADE_POSTED"] * 101), "type", "List should have at most 100 items after validation, not 101"),
        ("metadata=ticketId", "metadata", "must be a JSON object"),
        ("metadata=[1]", "metadata", "must be a JSON object"),
        ('metadata={"a":1,"a":2}', "metadata.a", "stands twice in one object"),
        ('metadata={"a":"%5Cu0000"}', "metadata.a", "contains a character that is not allowed"),
        (f'metadata={{"a":"{"x" * 4096}"}}', "metadata", "String should have at most 4096 characters"),
        ("createdFrom=yesterday", "createdFrom", NO_TIME),
        ("createdBefore=1772323200", "createdBefore", NO_TIME),
        ("createdFrom=0001-01-01T00:00:00%2B14:00", "createdFrom", NO_TIME),
        ("createdFrom=2026-03-01T00:00:00", "createdFrom", NO_TIME),
        ("first=101", "first", "must be from 1 to 100"),
        ("after=o", "after", "must be the endCursor of a page"),
        ("after=o9999999999999999999", "after", "must be the endCursor of a page"),
    ],
)  # fmt: skip
async def test_a_wrong_filter_is_named(ada: httpx.AsyncClient, query: str, field: str, message: str) -> None:
    answer = await ada.get(f"/api/notifications?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": field, "message": message}]


async def test_an_unknown_part_of_the_count_is_refused(ada: httpx.AsyncClient) -> None:
    answer = await ada.get("/api/notifications/unread-count?by=type")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "by")
