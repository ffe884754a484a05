"""Access and endurance: axe in every state, the journey by keyboard, a thousand rows, a heap that stays flat."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import is_live
from tests.browser.people import ADA, bell, high, inbox, post, shows_status, shows_unread, urgent
from tests.eventually import eventually
from tests.npm import install
from tests.servers import ApiServer

OpenPage = Callable[..., Page]
NewContext = Callable[..., BrowserContext]
FULL = "/notifications"
PHONE = {"width": 390, "height": 844}
STREAM = re.compile(r"/api/notifications/stream\?")
MANY = 1000
#: Whatever is collected late: a tenth of what a thousand notifications weigh.
SLACK_BYTES = 700_000


@pytest.fixture(scope="module")
def stack_env(stack_env: dict[str, str]) -> dict[str, str]:
    return {**stack_env, "CARILLON_INBOX_CAP": "1500"}


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    return (install() / "axe-core" / "axe.min.js").read_text()


def violations(page: Page, axe: str) -> list[str]:
    """Return what axe finds, in every rule it has for WCAG 2.2 AA and good practice, shadow roots included."""
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate(
        "axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations)"
    )
    return [f"{each['id']}: {node['target']} {node['html'][:160]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_state(new_context: NewContext, api_server: ApiServer, axe: str, scheme: str) -> None:
    context = new_context(color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{FULL}#uni-berlin/grace")
    is_live(page)
    assert violations(page, axe) == []  # empty
    post(api_server.url)
    urgent(api_server.url)
    post(api_server.url, "university.approved", university_id="u-1", university_name="University of Berlin")
    expect(page.locator("carillon-toasts .toast")).to_have_count(2)
    shows_unread(page, 3)
    assert violations(page, axe) == []  # inbox, toasts, the bell closed
    bell(page).click()
    expect(page.locator("carillon-bell article")).to_have_count(3)
    assert violations(page, axe) == []  # open
    page.keyboard.press("Escape")
    page.route("**/api/notifications/*", lambda route: route.fulfill(status=500, json={"title": "Broken"}))
    article = page.locator("carillon-inbox article").first
    article.hover()
    article.get_by_role("button", name="Mark read").click()
    expect(page.locator("carillon-inbox .note")).to_contain_text("Broken")
    assert violations(page, axe) == []  # error
    page.unroute("**/api/notifications/*")
    page.goto("/#helpdesk")
    expect(page.locator("carillon-status .status").first).to_have_class("status live")
    assert violations(page, axe) == []  # the demonstration


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_a_touch_screen_with_actions_folded_or_unfolded(
    new_context: NewContext, api_server: ApiServer, axe: str, scheme: str
) -> None:
    context = new_context(color_scheme=scheme, reduced_motion="reduce", viewport=PHONE, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.goto(f"{FULL}?lang=ar#uni-berlin/ada")
    post(api_server.url)
    high(api_server.url)
    articles = page.locator("carillon-inbox article")
    expect(articles).to_have_count(2)
    assert violations(page, axe) == []
    more = articles.last.locator("[aria-expanded]")
    more.tap()
    expect(more).to_have_attribute("aria-expanded", "true")
    assert violations(page, axe) == []
    unfolded, whole = articles.last.locator(".actions").bounding_box(), articles.last.bounding_box()
    assert unfolded is not None
    assert whole is not None
    assert unfolded["x"] - whole["x"] < 8, "they unfold at the end of the line, which is the left here"
    assert unfolded["width"] < whole["width"] / 2 + 8


def test_the_whole_journey_by_keyboard(open_page: OpenPage, api_server: ApiServer) -> None:
    page = open_page(*ADA, path=FULL)
    for _ in range(3):
        post(api_server.url)
    shows_unread(page, 3)
    expect(bell(page)).to_have_attribute("aria-expanded", "false")
    bell(page).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Notifications")).to_be_visible()
    expect(bell(page)).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Tab")
    expect(page.locator("carillon-bell").get_by_role("button", name="Mark all read")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(bell(page)).to_be_focused()
    articles = page.locator("carillon-inbox article")
    articles.first.focus()
    page.keyboard.press("PageDown")
    expect(articles.nth(1)).to_be_focused()
    page.keyboard.press("PageUp")
    expect(articles.first).to_be_focused()
    assert [articles.nth(at).get_attribute("aria-posinset") for at in range(3)] == ["1", "2", "3"]
    page.keyboard.press("Tab")  # the link
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # mark read
    shows_unread(page, 2)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # delete
    expect(articles).to_have_count(2)
    expect(articles.first).to_be_focused()


def test_what_is_new_waits_while_somebody_reads(open_page: OpenPage, api_server: ApiServer) -> None:
    page = open_page(*ADA, path=FULL)
    post(api_server.url)
    articles = page.locator("carillon-inbox article")
    expect(articles).to_have_count(1)
    articles.first.focus()
    post(api_server.url)
    post(api_server.url)
    shows_unread(page, 3)
    fresh = page.get_by_role("button", name="2 new, show")
    expect(fresh).to_be_visible()
    expect(articles).to_have_count(1)
    page.locator("carillon-inbox").get_by_role("button", name="Mark all read").click()
    shows_unread(page, 2)  # what was not shown is not marked
    fresh.click()
    expect(articles).to_have_count(3)
    expect(articles.first).to_be_focused()


def test_filters_show_what_they_let_through_and_the_archive(open_page: OpenPage, api_server: ApiServer) -> None:
    page = open_page(*ADA, path=FULL)
    post(api_server.url)
    high(api_server.url)
    articles = page.locator("carillon-inbox article")
    expect(articles).to_have_count(2)
    page.get_by_label("Kind").select_option("certificate")
    expect(articles).to_have_count(1)
    expect(articles).to_contain_text("Certificate Minted on Blockchain")
    page.get_by_role("button", name="Unread", exact=True).click()
    expect(page.get_by_role("button", name="Unread", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(articles).to_have_count(1)
    articles.hover()
    articles.get_by_role("button", name="Archive").click()
    expect(articles).to_have_count(0)
    expect(page.locator("carillon-inbox .empty")).to_contain_text("Nothing here")
    page.get_by_role("button", name="Archived", exact=True).click()
    expect(articles).to_have_count(1)
    articles.hover()
    articles.get_by_role("button", name="Take out of the archive").click()
    expect(articles).to_have_count(0)
    page.get_by_role("button", name="All", exact=True).click()
    expect(articles).to_have_count(1)
    page.get_by_label("Kind").select_option("")
    expect(articles).to_have_count(2)
    shows_unread(page, 1)


def test_a_badge_over_99_tells_readers_the_true_number(open_page: OpenPage, stack_env: dict[str, str]) -> None:
    page = open_page(*ADA, path=FULL)
    publish(stack_env, 120)
    shows_unread(page, 120, within_ms=60_000)


def publish(stack_env: dict[str, str], many: int) -> None:
    """Post many events for Ada at once, as a producer does that shares the database."""
    statement = """
        SELECT carillon_publish(jsonb_build_object('specversion', '1.0', 'source', '/many', 'id', gen_random_uuid(),
          'type', 'certificate.minted', 'tenant', 'uni-berlin', 'data', jsonb_build_object('student_id', 'ada',
          'certificate_id', 'c-' || n, 'badge_title', 'Badge ' || n))) FROM generate_series(1, %s) n"""
    with psycopg.connect(stack_env["CARILLON_DATABASE_URL"], autocommit=True) as session:
        session.execute(statement, [many])


def test_a_thousand_items_are_scrolled_through_page_by_page(
    open_page: OpenPage, stack_env: dict[str, str], api_server: ApiServer
) -> None:
    publish(stack_env, MANY)
    eventually(lambda: inbox(api_server.url, first=1)["totalCount"] == MANY, within=60)
    page = open_page(*ADA, path=FULL)
    articles = page.locator("carillon-inbox article")

    def scrolled() -> int:
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        return articles.count()

    def every() -> bool:
        assert scrolled() == MANY
        return True

    eventually(every, within=120)
    expect(page.get_by_role("button", name="Load more")).to_be_hidden()
    assert articles.last.get_attribute("aria-posinset") == str(MANY)
    assert articles.last.get_attribute("aria-setsize") == str(MANY)
    assert len(set(articles.evaluate_all("all => all.map((each) => each.getAttribute('aria-labelledby'))"))) == MANY


def test_the_heap_stays_flat_over_a_thousand_events(
    open_page: OpenPage, stack_env: dict[str, str], api_server: ApiServer
) -> None:
    """Each event is read and deleted again, so that what is kept of it would be a leak."""
    page = open_page(*ADA, path=FULL)
    session = page.context.new_cdp_session(page)

    def used() -> int:
        session.send("HeapProfiler.collectGarbage")
        size: int = session.send("Runtime.getHeapUsage")["usedSize"]
        return size

    def hundreds(many: int) -> None:
        for _ in range(many):
            publish(stack_env, 100)
            shows_unread(page, 100, within_ms=60_000)
            page.evaluate(f"{CLIENT}.markAllRead(); {CLIENT}.removeRead()")
            shows_unread(page, 0)
            expect(page.locator("carillon-inbox article")).to_have_count(0)
            eventually(lambda: inbox(api_server.url, first=1)["totalCount"] == 0, within=30)

    hundreds(2)
    before = used()
    hundreds(8)
    assert used() - before < SLACK_BYTES


CLIENT = "document.querySelector('carillon-bell').client"


def test_it_fits_a_window_of_320_pixels(new_context: NewContext, api_server: ApiServer) -> None:
    page = new_context(viewport={"width": 320, "height": 640}).new_page()
    for path in (f"{FULL}#uni-berlin/ada", "/#credentials", "/events#uni-berlin/ada"):
        page.goto(path)
        expect(page.locator("carillon-status .status").first).to_have_class("status live")
        assert page.evaluate("document.documentElement.scrollWidth") == 320, path


def test_targets_are_at_least_24_pixels(open_page: OpenPage, api_server: ApiServer) -> None:
    page = open_page(*ADA, path=FULL)
    post(api_server.url)
    bell(page).click()
    expect(page.locator("carillon-bell article")).to_have_count(1)
    for button in page.locator("carillon-bell button:visible, carillon-inbox button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 24, button.inner_text()


def test_a_lost_connection_is_shown_and_what_waits_is_told(new_context: NewContext, api_server: ApiServer) -> None:
    context = new_context()
    page = context.new_page()
    page.goto(f"{FULL}#uni-berlin/ada")
    is_live(page)
    context.set_offline(True)
    page.route(STREAM, lambda route: route.abort())
    page.evaluate(f"{CLIENT}.stop(), {CLIENT}.start()")
    shows_status(page, "Offline")
    expect(page.locator("carillon-inbox .note")).to_contain_text("What you do now is sent when the connection is back.")
    page.unroute(STREAM)
    context.set_offline(False)
    is_live(page, within_ms=40_000)
    expect(page.locator("carillon-inbox .note")).to_be_hidden()


def test_the_page_of_the_other_direction_is_mirrored(new_context: NewContext, api_server: ApiServer) -> None:
    page = new_context().new_page()
    page.goto(f"{FULL}?lang=ar#uni-berlin/ada")
    is_live_in_arabic = page.locator("carillon-status .status")
    expect(is_live_in_arabic).to_have_text("مباشر")
    post(api_server.url)
    expect(page.locator("carillon-bell .badge")).to_have_text("1")
    article, face = page.locator("carillon-inbox article"), page.locator("carillon-inbox .face")
    whole, icon = article.bounding_box(), face.bounding_box()
    assert whole is not None
    assert icon is not None
    assert icon["x"] > whole["x"] + whole["width"] / 2


@pytest.mark.parametrize(
    ("code", "title", "you_are", "ada"),
    [
        ("en", "Notifications", "You are", "Ada, student"),
        ("de", "Benachrichtigungen", "Angemeldet als", "Ada, Studentin"),
        ("es", "Notificaciones", "Eres", "Ada, estudiante"),
        ("fr", "Notifications", "Vous êtes", "Ada, étudiante"),
        ("ar", "الإشعارات", "أنت", "Ada, طالبة"),
    ],
)
def test_the_full_page_speaks_the_language_of_its_elements(
    new_context: NewContext, code: str, title: str, you_are: str, ada: str
) -> None:
    page = new_context().new_page()
    page.goto(f"{FULL}?lang={code}#uni-berlin/ada")
    expect(page).to_have_title(f"{title} · Carillon")
    expect(page.locator("label.who span")).to_have_text(you_are)
    chosen = page.locator("label.who select")
    expect(chosen).to_have_value("#uni-berlin/ada")
    expect(chosen.locator("option:checked")).to_have_text(f"{ada} · uni-berlin")
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page.locator("html")).to_have_attribute("lang", code)
    expect(page.locator("html")).to_have_attribute("dir", "rtl" if code == "ar" else "ltr")
    assert page.locator("carillon-inbox h2").inner_text() == title
