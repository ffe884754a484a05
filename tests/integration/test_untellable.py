"""Rows that nothing can be told of, as only a stranger's hand writes them: the others are told around them."""

from __future__ import annotations

import re
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.edge import Edge
from tests.eventually import eventually
from tests.writer import TENANT

DEEP = '{"a": ' + "[" * 300 + "]" * 300 + "}"
HANDS = {
    "a priority of nobody's": ("priority", "9"),
    "metadata nested 300 deep": ("metadata", DEEP),
    "metadata that is a list": ("metadata", "[]"),
}


@pytest.mark.parametrize(("column", "value"), HANDS.values(), ids=HANDS)
async def test_a_row_that_cannot_be_told_costs_itself_alone(edge: Edge, column: str, value: str) -> None:
    ada = edge.recipient()
    for title in ("one", "two", "three"):
        edge.writer.create(ada, title)
    with psycopg.connect(edge.environment["CARILLON_DATABASE_URL"], autocommit=True) as session:
        statement = f"UPDATE notifications SET {column} = %s FROM inboxes i WHERE title = 'two' AND i.recipient = %s"
        own = "AND i.tenant = %s AND i.key = notifications.key RETURNING notifications.id"
        ((hidden,),) = session.execute(f"{statement} {own}".encode(), (value, ada, TENANT)).fetchall()
    headers = {"authorization": f"Bearer {edge.token(ada)}"}
    async with httpx.AsyncClient(base_url=edge.server.url, headers=headers, timeout=30, trust_env=False) as client:
        page = (await client.get("/api/notifications")).json()
        assert [node["title"] for node in page["nodes"]] == ["three", "one"]
        assert (page["totalCount"], page["cursor"]) == (3, "1-3")
        changes = (await client.get("/api/notifications/changes?since=1-0")).json()["changes"]
        own = f"/api/notifications/{hidden}"
        answers = [await client.get(own), await client.patch(own, json={"read": True, "archived": True})]
        nobodys = await client.get(f"/api/notifications/{uuid4()}")
        assert [(each.status_code, each.json()) for each in answers] == [(404, nobodys.json())] * 2
        counts = (await client.get("/api/notifications/unread-count")).json()
        assert (counts["unreadCount"], counts["cursor"]) == (3, "1-3")
    told = [(step["prev"], [each["title"] for each in step["notifications"]]) for step in changes]
    assert told == [(0, ["one"]), (1, []), (2, ["three"])]
    listener = edge.listener(ada, last_event_id="1-0")
    await listener.open()
    frames = await listener.count(5, within=30)
    assert [frame.id for frame in frames] == ["1-0", "1-1", "1-2", "1-3", "1-3"]
    edge.writer.create(ada, "four")
    assert (await listener.count(6, within=30))[-1].data["notification"]["title"] == "four"
    await listener.close()
    eventually(lambda: edge.server.output.count("notification.untellable") >= 3, within=30)
    async with httpx.AsyncClient(base_url=edge.server.url, timeout=30, trust_env=False) as client:
        exposition = (await client.get("/metrics")).text
    assert float(re.findall(r"^carillon_untellable_rows_total (\S+)", exposition, re.MULTILINE)[0]) >= 3
