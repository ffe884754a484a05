"""What stands around the demonstration page: its files, its headers, and that production has none of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api import pages
from tests.servers import ApiServer

PLACES = ["/api/demo/people", "/api/demo/catalog", "/api/demo/events/x?tenant=platform", "/static/pages/main.js"]


async def test_the_page_and_its_files_allow_their_own_scripts_alone(api: httpx.AsyncClient) -> None:
    page = await api.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (
        re.findall(r"<script(?! type=\"module\" src=\"/static/pages/demo.js\">)|<style|style=| on[a-z]+=", page.text)
        == []
    )
    for name, media_type in pages.FILES.items():
        file = await api.get(f"/static/pages/{name}")
        assert (file.status_code, file.headers["content-type"].partition(";")[0]) == (200, media_type)
        assert file.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["index.html", "..%2f..%2fpyproject.toml", "nothing.js", ".."])
async def test_nothing_but_the_page_s_files_is_served(api: httpx.AsyncClient, name: str) -> None:
    assert (await api.get(f"/static/pages/{name}")).status_code == 404


async def test_the_people_are_there_at_the_first_visit_and_each_gets_a_token_of_their_own(
    api: httpx.AsyncClient,
) -> None:
    people: list[dict[str, Any]] = (await api.get("/api/demo/people")).json()["people"]
    assert len(people) == 12
    assert people == (await api.get("/api/demo/people")).json()["people"]
    for person in people:
        wanted = {"tenant": person["tenant"], "recipient": person["id"]}
        token = (await api.post("/api/demo/session", json=wanted)).json()["token"]
        count = await api.get("/api/notifications/unread-count", headers={"authorization": f"Bearer {token}"})
        assert count.json() == {"unreadCount": 0, "unseenCount": 0, "cursor": "1-0"}


async def test_a_token_is_given_for_demo_people_alone(api: httpx.AsyncClient) -> None:
    await api.get("/api/demo/people")
    answer = await api.post("/api/demo/session", json={"tenant": "uni-berlin", "recipient": "somebody"})
    assert answer.status_code == 404


async def test_every_example_of_the_catalog_is_accepted_where_the_page_sends_it(api: httpx.AsyncClient) -> None:
    await api.get("/api/demo/people")
    catalog = (await api.get("/api/demo/catalog")).json()
    sent = 0
    for domain in catalog["domains"]:
        for kind in domain["types"]:
            tenant = kind["tenant"] or domain["tenant"] or "uni-berlin"
            event = {"type": kind["name"], "tenant": tenant, "data": kind["example"]}
            answer = await api.post("/api/demo/events", json=event)
            assert (kind["name"], answer.status_code) == (kind["name"], 202)
            sent += 1
    assert sent > 40


async def test_a_wrong_event_is_refused_as_any_producer_s(api: httpx.AsyncClient) -> None:
    await api.get("/api/demo/people")
    event = {"type": "certificate.issued", "tenant": "uni-berlin", "data": {"student_id": 1}}
    problem = await api.post("/api/demo/events", json=event)
    assert problem.status_code == 422
    assert [error["field"] for error in problem.json()["errors"]] == [
        "data.badge_title",
        "data.certificate_id",
        "data.student_id",
    ]


def test_production_has_a_plain_page_and_no_demonstration(
    new_api_server: Callable[..., ApiServer], production: dict[str, str]
) -> None:
    server = new_api_server(**production)
    with httpx.Client(base_url=server.url) as client:
        page = client.get("/")
        assert (page.status_code, "<script" in page.text) == (200, False)
        assert [client.get(place).status_code for place in PLACES] == [404] * len(PLACES)
        person = {"tenant": "uni-berlin", "recipient": "ada"}
        assert client.post("/api/demo/session", json=person).status_code == 404
        event = {"type": "certificate.issued", "tenant": "platform", "data": {}}
        assert client.post("/api/demo/events", json=event).status_code == 404
