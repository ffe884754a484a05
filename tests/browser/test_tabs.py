"""Several pages of one browser against the real server, and a page that comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Error, Page, expect

from tests.browser.clients import FULL, RECORD, SNAPSHOT, NewContext, OpenPage, asked_for_streams, state
from tests.browser.conftest import installed_chromium, is_live
from tests.browser.people import ADA, bell, high, inbox, post, shows_unread
from tests.eventually import eventually
from tests.servers import ApiServer


def ids(page: Page) -> list[str]:
    told: list[str] = page.evaluate(f"{SNAPSHOT}.items.map((item) => item.id)")
    return told


def leader_of(pages: list[Page]) -> Page:
    """Return the one page that holds the stream."""

    def leaders() -> list[Page]:
        return [page for page in pages if state(page)["isLeader"]]

    eventually(lambda: len(leaders()) == 1, within=30)
    return leaders()[0]


def test_eight_tabs_share_one_stream_and_are_updated_within_a_second_of_each_other(
    open_page: OpenPage, new_context: NewContext, api_server: ApiServer
) -> None:
    context = new_context()
    streams = asked_for_streams(context)
    tabs = [open_page(*ADA, context=context, path=FULL) for _ in range(8)]
    assert len(streams) == 1
    for tab in tabs:
        tab.evaluate(RECORD)
    post(api_server.url)
    for tab in tabs:
        shows_unread(tab, 1)
    changed = [tab.evaluate("badges") for tab in tabs]
    assert [[count for count, _ in each] for each in changed] == [[1]] * 8
    times = [at for each in changed for _, at in each]
    assert max(times) - min(times) < 1000
    assert len(streams) == 1


@pytest.mark.parametrize("ending", ["closed", "crashed"])
def test_the_next_tab_takes_over_without_a_change_missing_or_told_twice(
    open_page: OpenPage, new_context: NewContext, api_server: ApiServer, ending: str
) -> None:
    context = new_context()
    tabs = [open_page(*ADA, context=context, path=FULL) for _ in range(3)]
    leader = leader_of(tabs)
    others = [tab for tab in tabs if tab is not leader]
    for tab in others:
        tab.evaluate(RECORD)
    post(api_server.url)
    if ending == "closed":
        leader.close()
    else:
        with leader.expect_event("crash"), suppress(Error):
            leader.goto("chrome://crash")
    for _ in range(4):
        post(api_server.url)
    for tab in others:
        shows_unread(tab, 5)
        is_live(tab)
    leader_of(others)
    expected = [node["id"] for node in inbox(api_server.url)["nodes"]]
    for tab in others:
        assert ids(tab) == expected
        assert tab.evaluate("told") == expected[::-1]


def test_a_toast_is_shown_once_whatever_the_number_of_tabs(
    open_page: OpenPage, new_context: NewContext, api_server: ApiServer
) -> None:
    context = new_context()
    tabs = [open_page(*ADA, context=context, path=FULL) for _ in range(2)]
    high(api_server.url)
    for tab in tabs:
        shows_unread(tab, 1)
    eventually(lambda: sum(tab.locator("carillon-toasts .toast").count() for tab in tabs) == 1, within=30)


def test_two_people_of_one_browser_never_mix(new_context: NewContext, api_server: ApiServer) -> None:
    """With a session cookie, whoever signs in last is the browser's person: in every tab the one before is gone."""
    post(api_server.url)
    eventually(lambda: inbox(api_server.url)["unreadCount"] == 1, within=30)
    context = new_context()
    sign_in = """async (person) => {
      const asked = JSON.stringify({ tenant: "uni-berlin", recipient: person });
      const headers = { "content-type": "application/json" };
      const session = await fetch("/api/demo/session", { method: "POST", headers, body: asked });
      const { token } = await session.json();
      await fetch("/api/session", { method: "POST", headers: { authorization: `Bearer ${token}` } });
      const { createNotificationClient } = await import("/static/carillon/latest/core/client.js");
      window.client = createNotificationClient();
      client.start();
    }"""
    first, second = context.new_page(), context.new_page()
    for page in (first, second):
        page.goto("/events#uni-berlin/mira")
    first.evaluate(sign_in, "ada")
    eventually(lambda: first.evaluate("client.getSnapshot().status") == "live", within=30)
    assert first.evaluate("client.getSnapshot().items.map((item) => item.title)") == [
        "Certificate Minted on Blockchain"
    ]
    second.evaluate(sign_in, "mira")
    eventually(lambda: second.evaluate("client.getSnapshot().status") == "live", within=30)
    eventually(lambda: first.evaluate("client.getSnapshot().status") == "closed", within=30)
    assert first.evaluate("(({ items, unreadCount }) => [items.length, unreadCount])(client.getSnapshot())") == [0, 0]
    assert second.evaluate("(({ items, unreadCount }) => [items.length, unreadCount])(client.getSnapshot())") == [0, 0]


@pytest.fixture
def keeping_chromium(chromium: Any, api_server: ApiServer) -> Iterator[Page]:
    """A browser that keeps pages whole when they are left, which Playwright switches off."""
    kind = chromium.browser_type
    switched_off = ["--disable-back-forward-cache", "--disable-features=BackForwardCache"]
    browser = kind.launch(
        executable_path=installed_chromium(), args=["--no-sandbox", "--disable-gpu"], ignore_default_args=switched_off
    )
    yield browser.new_page(base_url=api_server.url)
    browser.close()


def test_back_from_the_back_forward_cache_the_page_is_live_again(keeping_chromium: Page, api_server: ApiServer) -> None:
    page = keeping_chromium
    page.goto(f"{FULL}#uni-berlin/ada")
    is_live(page)
    page.evaluate("window.kept = true; addEventListener('pageshow', (event) => { window.restored = event.persisted; })")
    page.goto("/static/pages/icon.svg")
    post(api_server.url)
    eventually(lambda: inbox(api_server.url)["unreadCount"] == 1, within=30)
    page.go_back(wait_until="commit")
    assert page.evaluate("[window.kept, window.restored]") == [True, True]
    shows_unread(page, 1)
    is_live(page)
    bell(page).click()
    expect(page.locator("carillon-bell article")).to_have_count(1)
