"""How the elements behave beside somebody's work: toasts, the panel, what is said aloud, motion, colours, storage."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import is_live
from tests.browser.people import ADA, bell, high, post, shows_unread, urgent
from tests.eventually import eventually
from tests.servers import ApiServer

OpenPage = Callable[..., Page]
NewContext = Callable[..., BrowserContext]
FULL = "/notifications"
PHONE = {"width": 390, "height": 844}
CLIENT = "document.querySelector('carillon-bell').client"
#: Longer than a toast of HIGH is shown, and than announcements are collected.
LATER_MS = 20_000
#: A leader that is silent for 65 s is replaced.
SILENT_MS = 66_000
#: What an element says to screen readers alone.
SPOKEN = """() => [...document.querySelectorAll('carillon-bell, carillon-inbox, carillon-toasts, carillon-status')]
  .map((each) => each.shadowRoot.querySelector('[aria-live]').textContent).filter(Boolean)"""
#: Every animation that runs, those in shadow roots included.
MOVING = """() => [document, ...[...document.querySelectorAll('*')].map((each) => each.shadowRoot).filter(Boolean)]
  .flatMap((each) => each.getAnimations()).map((each) => each.animationName).filter(Boolean)"""


@pytest.fixture
def timed_page(new_context: NewContext) -> Callable[..., Page]:
    """Open the full page of somebody of the university, live, with a clock that the test moves."""

    def opened(person: str, context: BrowserContext | None = None) -> Page:
        page = (context or new_context()).new_page()
        page.clock.install()
        page.goto(f"{FULL}#uni-berlin/{person}")
        is_live(page)
        return page

    return opened


def stop_time(page: Page) -> None:
    """Let the page's timers stand still from a second on."""
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 1)


def test_a_toast_of_high_priority_goes_after_a_while_and_an_urgent_one_stays(
    timed_page: Callable[..., Page], api_server: ApiServer
) -> None:
    page = timed_page("grace")
    post(api_server.url, "university.approved", university_id="u-1", university_name="University of Berlin")
    urgent(api_server.url)
    toasts = page.locator("carillon-toasts .toast")
    expect(toasts).to_have_count(2)
    expect(page.locator("carillon-toasts [role=status]")).to_contain_text("University Approved")
    expect(page.locator("carillon-toasts [role=alert]")).to_contain_text("Account Locked")
    page.clock.fast_forward(LATER_MS)
    expect(toasts).to_have_count(1)
    expect(toasts).to_contain_text("Account Locked")
    toasts.get_by_role("button", name="Dismiss").click()
    expect(toasts).to_have_count(0)
    shows_unread(page, 2)


def test_a_toast_waits_while_it_is_pointed_at_or_holds_the_focus(
    timed_page: Callable[..., Page], api_server: ApiServer
) -> None:
    page = timed_page("ada")
    high(api_server.url)
    toast = page.locator("carillon-toasts .toast")
    toast.hover()
    page.clock.fast_forward(LATER_MS)
    expect(toast).to_have_count(1)
    toast.get_by_role("button", name="Dismiss").focus()
    page.mouse.move(5, 5)
    page.clock.fast_forward(LATER_MS)
    expect(toast).to_have_count(1)
    bell(page).focus()
    page.clock.fast_forward(LATER_MS)
    expect(toast).to_have_count(0)


def test_a_burst_is_said_once_and_by_one_element(timed_page: Callable[..., Page], api_server: ApiServer) -> None:
    page = timed_page("ada")
    stop_time(page)
    for _ in range(3):
        post(api_server.url)
    shows_unread(page, 3)
    assert page.evaluate(SPOKEN) == []
    page.clock.run_for(3000)
    assert page.evaluate(SPOKEN) == ["3 new notifications"]
    post(api_server.url)
    shows_unread(page, 4)
    page.clock.run_for(3000)
    assert page.evaluate(SPOKEN) == ["New: Certificate Minted on Blockchain"]


def test_the_panel_shows_the_latest_five_and_closes_by_a_click_elsewhere(
    open_page: OpenPage, api_server: ApiServer
) -> None:
    page = open_page(*ADA, path=FULL)
    for _ in range(6):
        post(api_server.url)
    shows_unread(page, 6)
    bell(page).click()
    panel = page.get_by_role("dialog", name="Notifications")
    expect(panel.locator("article")).to_have_count(5)
    panel.get_by_role("heading", name="Notifications").click()
    expect(panel).to_be_visible()
    page.mouse.click(20, 700)
    expect(panel).to_be_hidden()
    expect(bell(page)).to_have_attribute("aria-expanded", "false")


def test_read_all_then_delete_what_is_read(open_page: OpenPage, api_server: ApiServer) -> None:
    page = open_page(*ADA, path=FULL)
    for _ in range(2):
        post(api_server.url)
    inbox = page.locator("carillon-inbox")
    expect(inbox.locator("article")).to_have_count(2)
    expect(inbox.get_by_role("button", name="Delete read")).to_be_disabled()
    inbox.get_by_role("button", name="Mark all read").click()
    shows_unread(page, 0)
    expect(inbox.get_by_role("button", name="Mark all read")).to_be_disabled()
    inbox.get_by_role("button", name="Delete read").click()
    expect(inbox.locator("article")).to_have_count(0)
    expect(inbox.locator(".empty")).to_contain_text("All quiet")


@pytest.mark.parametrize(("wish", "moves"), [("no-preference", ["arrive", "glow"]), ("reduce", [])])
def test_what_arrives_moves_only_where_motion_is_welcome(
    new_context: NewContext, api_server: ApiServer, wish: str, moves: list[str]
) -> None:
    page = new_context(reduced_motion=wish).new_page()
    page.goto(f"{FULL}#uni-berlin/ada")
    is_live(page)
    post(api_server.url)
    articles = page.locator("carillon-inbox article")
    expect(articles).to_have_count(1)
    session = page.context.new_cdp_session(page)
    session.send("Animation.enable")
    session.send("Animation.setPlaybackRate", {"playbackRate": 0})
    post(api_server.url)
    expect(articles).to_have_count(2)
    assert [name for name in page.evaluate(MOVING) if name in ("arrive", "glow")] == moves
    if wish == "reduce":
        assert page.evaluate(MOVING) == []


def test_with_forced_colours_the_badge_and_the_dots_keep_their_shape(
    new_context: NewContext, api_server: ApiServer
) -> None:
    page = new_context(forced_colors="active").new_page()
    page.goto(f"{FULL}#uni-berlin/ada")
    is_live(page)
    post(api_server.url)
    shows_unread(page, 1)
    expect(page.locator("carillon-bell .badge")).to_have_css("border-style", "solid")
    dot = page.locator("carillon-inbox article .dot")
    expect(dot).to_be_visible()
    assert dot.evaluate("(dot) => getComputedStyle(dot).forcedColorAdjust") == "none"


def test_a_host_changes_the_looks_by_properties_and_parts(open_page: OpenPage, api_server: ApiServer) -> None:
    page = open_page(*ADA, path=FULL)
    post(api_server.url)
    page.evaluate("""() => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(`carillon-inbox { --carillon-accent: rgb(1, 2, 3); }
        carillon-inbox::part(title) { letter-spacing: 7px; } carillon-bell::part(bell) { color: rgb(4, 5, 6); }`);
      document.adoptedStyleSheets = [sheet];
    }""")
    article = page.locator("carillon-inbox article")
    expect(article.locator(".dot")).to_have_css("background-color", "rgb(1, 2, 3)")
    expect(article.locator("[part=title]")).to_have_css("letter-spacing", "7px")
    expect(bell(page)).to_have_css("color", "rgb(4, 5, 6)")


def test_an_action_url_that_is_no_address_becomes_no_link(new_context: NewContext, api_server: ApiServer) -> None:
    """The server lets none through: this is the second line, so a page of the API is changed on its way."""
    urls = ["javascript:alert(1)", "data:text/html,x", "https://[", "/student", "https://app.example.com/a"]

    def changed(route: Route) -> None:
        answer = route.fetch()
        page_: dict[str, Any] = answer.json()
        node = page_["nodes"][0]
        page_["nodes"] = [
            {**node, "id": f"{at}", "createdSeq": node["createdSeq"] - at, "actionUrl": url}
            for at, url in enumerate(urls)
        ]
        route.fulfill(response=answer, json=page_)

    post(api_server.url)
    page = new_context().new_page()
    page.route(re.compile(r"/api/notifications\?"), changed)
    page.goto(f"{FULL}#uni-berlin/ada")
    articles = page.locator("carillon-inbox article")
    expect(articles).to_have_count(5)
    links = articles.evaluate_all("all => all.map((each) => each.querySelector('a')?.getAttribute('href') ?? null)")
    assert links == [None, None, None, "/student", "https://app.example.com/a"]


def test_nothing_is_kept_in_any_storage(open_page: OpenPage, api_server: ApiServer) -> None:
    page = open_page(*ADA, path=FULL)
    high(api_server.url)
    shows_unread(page, 1)
    kept = """async () => [localStorage.length, sessionStorage.length, document.cookie,
      (await indexedDB.databases()).length, (await caches.keys()).length]"""
    assert page.evaluate(kept) == [0, 0, "", 0, 0]


def test_a_leader_that_falls_silent_is_replaced(
    timed_page: Callable[..., Page], new_context: NewContext, api_server: ApiServer
) -> None:
    """As a page that the browser has frozen: it holds the lock, and says nothing. One clock moves a context's pages."""
    context = new_context()
    leader = timed_page("ada", context)
    follower = timed_page("ada", context)
    leads = f"{CLIENT}.getSnapshot().isLeader"
    assert (leader.evaluate(leads), follower.evaluate(leads)) == (True, False)
    leader.evaluate("BroadcastChannel.prototype.postMessage = () => {}")
    follower.clock.fast_forward(SILENT_MS)
    eventually(lambda: follower.evaluate(leads), within=30)
    eventually(lambda: not leader.evaluate(leads), within=30)
    post(api_server.url)
    shows_unread(follower, 1)
    shows_unread(leader, 1)


def test_on_a_touch_screen_the_actions_lie_behind_one_button(
    new_context: NewContext, open_page: OpenPage, api_server: ApiServer
) -> None:
    phone = new_context(viewport=PHONE, is_mobile=True, has_touch=True, reduced_motion="reduce")
    page = open_page(*ADA, context=phone, path=FULL)
    post(api_server.url)
    high(api_server.url)
    articles = page.locator("carillon-inbox article")
    expect(articles).to_have_count(2)
    first, second = articles.nth(0), articles.nth(1)
    more, other = (each.get_by_role("button", name="Actions: ") for each in (first, second))
    expect(first.get_by_role("button")).to_have_count(1)
    height = first.bounding_box()
    assert height is not None
    for button in (more, other):
        expect(button).to_have_attribute("aria-expanded", "false")
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44
    more.tap()
    expect(more).to_have_attribute("aria-expanded", "true")
    expect(first.get_by_role("button")).to_have_count(4)
    assert first.bounding_box() == height
    other.tap()
    expect(more).to_have_attribute("aria-expanded", "false")
    second.get_by_role("button", name="Mark read").tap()
    shows_unread(page, 1)
    expect(other).to_have_attribute("aria-expanded", "false")
    expect(other).to_be_focused()
    other.tap()
    second.get_by_role("button", name="Delete").tap()
    expect(articles).to_have_count(1)
    expect(first).to_be_focused()
