"""The web client in Chromium against a server that is away, refuses or falls silent."""

from __future__ import annotations

import time
from functools import partial

import jwt
import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.browser.clients import FULL, RECORD, SNAPSHOT, STREAM, NewContext, OpenPage, asked_for_streams, state
from tests.browser.conftest import is_live
from tests.browser.people import ADA, inbox, post, shows_status, shows_unread, token
from tests.browser.proxy import Proxy
from tests.eventually import eventually
from tests.servers import ApiServer

#: Equal jitter with almost all of its random half: the waits are the series itself, to within a millisecond.
NO_JITTER = "Math.random = () => 0.9999999;"
#: How long each wait for the next attempt is, told in the moment in which it begins.
RECORD_WAITS = """() => {
  window.waits = [];
  const client = document.querySelector('carillon-bell').client;
  let known = null;
  client.subscribe(() => {
    const { nextRetryAt } = client.getSnapshot();
    if (nextRetryAt && nextRetryAt !== known) waits.push(nextRetryAt - Date.now());
    known = nextRetryAt;
  });
}"""


def _more_than(requests: list[Request], before: int) -> bool:
    return len(requests) > before


def _waited(page: Page, times: int) -> bool:
    told: bool = page.evaluate("waits.length") == times
    return told


def test_a_killed_server_is_asked_again_in_the_series_and_resumed_at_the_cursor(
    new_context: NewContext, api_server: ApiServer
) -> None:
    context = new_context()
    context.add_init_script(NO_JITTER)
    streams = asked_for_streams(context)
    page = context.new_page()
    page.clock.install()
    page.goto(f"{FULL}#uni-berlin/ada")
    is_live(page)
    post(api_server.url)
    shows_unread(page, 1)
    cursor = state(page)["cursor"]
    page.evaluate(RECORD_WAITS)
    api_server.kill()
    for number in range(1, 8):
        eventually(partial(_waited, page, number), within=30)
        attempts = len(streams)
        page.clock.fast_forward(page.evaluate("waits.at(-1)") + 1)
        eventually(partial(_more_than, streams, attempts), within=30)
    waits = [wait / 1000 for wait in page.evaluate("waits.slice(0, 7)")]
    # The server's own `retry:` (1 to 3 s) wins once.
    assert 0 <= waits[0] <= 3
    assert waits[1:] == pytest.approx([2, 4, 8, 16, 30, 30], abs=0.5)
    api_server.start()
    eventually(partial(page.evaluate, f"{SNAPSHOT}.nextRetryAt !== null"), within=30)
    page.clock.fast_forward(31_000)
    is_live(page)
    assert streams[-1].headers["last-event-id"] == cursor
    post(api_server.url)
    shows_unread(page, 2)


def test_an_outage_of_the_stream_of_70_s_shows_the_item_by_polling(
    new_context: NewContext, api_server: ApiServer
) -> None:
    context = new_context()
    page = context.new_page()
    page.clock.install()
    page.route(STREAM, lambda route: route.abort())
    page.goto(f"{FULL}#uni-berlin/ada")
    shows_status(page, "Reconnecting")

    def polls() -> bool:
        page.clock.fast_forward(4_000)
        return page.locator("carillon-status .status").inner_text() == "Checking every minute"

    eventually(polls, within=30)
    post(api_server.url)
    eventually(lambda: inbox(api_server.url)["unreadCount"] == 1, within=30)
    page.clock.fast_forward(70_000)
    shows_unread(page, 1)
    expect(page.locator("carillon-inbox article")).to_have_count(1)
    page.unroute(STREAM)
    page.clock.fast_forward(31_000)
    is_live(page)


def test_a_connection_that_falls_silent_is_given_up(new_context: NewContext, api_server: ApiServer) -> None:
    proxy = Proxy(api_server.port)
    try:
        page = new_context().new_page()
        page.clock.install()
        page.goto(f"{proxy.url}{FULL}#uni-berlin/ada")
        is_live(page)
        proxy.silence()
        post(api_server.url)
        page.clock.fast_forward(66_000)
        shows_status(page, "Reconnecting|Offline")
        proxy.restore()
        page.clock.fast_forward(31_000)
        shows_unread(page, 1)
        is_live(page)
    finally:
        proxy.close()


def test_a_cut_line_is_told_and_what_was_done_meanwhile_is_sent_afterwards(
    new_context: NewContext, api_server: ApiServer
) -> None:
    proxy = Proxy(api_server.port)
    try:
        page = new_context().new_page()
        page.goto(f"{proxy.url}{FULL}#uni-berlin/ada")
        is_live(page)
        post(api_server.url)
        shows_unread(page, 1)
        proxy.cut()
        shows_status(page, "Reconnecting|Offline")
        article = page.locator("carillon-inbox article").first
        article.hover()
        article.get_by_role("button", name="Mark read").click()
        shows_unread(page, 0)
        assert inbox(api_server.url)["unreadCount"] == 1
        proxy.restore()
        page.get_by_role("button", name="Try again").first.click()
        eventually(lambda: inbox(api_server.url)["unreadCount"] == 0, within=30)
        shows_unread(page, 0)
    finally:
        proxy.close()


def test_a_token_that_runs_out_costs_one_refresh_and_no_loop(
    new_context: NewContext, api_server: ApiServer, stack_env: dict[str, str]
) -> None:
    made: list[float] = []

    def hand_out(route: Route) -> None:
        now, seconds = int(time.time()), 4 if not made else 3600
        made.append(seconds)
        claims = {"sub": "ada", "tenant": "uni-berlin", "roles": ["student"], "iat": now, "exp": now + seconds,
                  "aud": "carillon", "iss": "carillon"}  # fmt: skip
        route.fulfill(json={"token": jwt.encode(claims, stack_env["CARILLON_JWT_SECRET"], "HS256")})

    context = new_context()
    context.route("**/api/demo/session", hand_out)
    streams = asked_for_streams(context)
    page = context.new_page()
    page.goto(f"{FULL}#uni-berlin/ada")
    is_live(page)
    eventually(lambda: page.evaluate("1") and len(made) == 2, within=30)
    is_live(page)
    post(api_server.url)
    shows_unread(page, 1)
    assert (len(made), len(streams)) == (2, 2)


def test_429_is_honoured_and_polled_meanwhile(new_context: NewContext, api_server: ApiServer) -> None:
    context = new_context()
    streams = asked_for_streams(context)
    page = context.new_page()
    page.clock.install()
    refused = {"status": 429, "title": "Too many streams"}
    page.route(STREAM, lambda route: route.fulfill(status=429, headers={"retry-after": "600"}, json=refused))
    page.goto(f"{FULL}#uni-berlin/ada")
    shows_status(page, "Checking every minute")
    page.unroute(STREAM)
    page.clock.fast_forward(300_000)
    post(api_server.url)
    eventually(lambda: inbox(api_server.url)["unreadCount"] == 1, within=30)
    page.clock.fast_forward(70_000)
    shows_unread(page, 1)
    assert len(streams) == 1
    shows_status(page, "Checking every minute")
    page.clock.fast_forward(230_000)
    is_live(page)
    assert len(streams) == 2


def test_an_html_answer_with_200_is_no_stream(new_context: NewContext, api_server: ApiServer) -> None:
    page = new_context().new_page()
    page.route(STREAM, lambda route: route.fulfill(status=200, content_type="text/html", body="<h1>Sign in</h1>"))
    page.goto(f"{FULL}#uni-berlin/ada")
    shows_status(page, "Reconnecting|Checking")
    page.unroute(STREAM)
    is_live(page)


def test_event_source_follows_by_a_ticket_for_each_attempt(new_context: NewContext, api_server: ApiServer) -> None:
    context = new_context()
    tickets: list[str] = []
    context.on("request", lambda each: tickets.append(each.url) if each.url.endswith("/stream/tickets") else None)
    page = context.new_page()
    page.goto("/events#uni-berlin/mira")
    is_live(page)
    page.evaluate(
        """async (token) => {
          const { createNotificationClient } = await import("/static/carillon/latest/core/client.js");
          window.client = createNotificationClient({ auth: () => token, transport: "eventsource", tabs: false });
          client.start();
        }""",
        token(api_server.url),
    )
    eventually(lambda: page.evaluate("client.getSnapshot().status") == "live", within=30)
    post(api_server.url)
    eventually(lambda: page.evaluate("client.getSnapshot().unreadCount") == 1, within=30)
    api_server.restart()
    eventually(lambda: page.evaluate("client.getSnapshot().status") != "live", within=30)
    eventually(lambda: page.evaluate("client.getSnapshot().status") == "live", within=40)
    post(api_server.url)
    eventually(lambda: page.evaluate("client.getSnapshot().unreadCount") == 2, within=30)
    assert len(tickets) >= 2
    assert page.evaluate("client.getSnapshot().items.length") == 2


def test_a_refused_change_rolls_the_badge_back_and_says_so(open_page: OpenPage, api_server: ApiServer) -> None:
    page = open_page(*ADA, path=FULL)
    post(api_server.url)
    shows_unread(page, 1)
    page.evaluate(RECORD)
    page.route("**/api/notifications/*", lambda route: route.fulfill(status=500, json={"title": "Broken"}))
    article = page.locator("carillon-inbox article").first
    article.hover()
    article.get_by_role("button", name="Mark read").click()
    expect(page.locator("carillon-inbox .note")).to_contain_text("taken back. Broken")
    shows_unread(page, 1)
    assert [count for count, _ in page.evaluate("badges")] == [0, 1]
    assert inbox(api_server.url)["unreadCount"] == 1
