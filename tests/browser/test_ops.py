"""The operators' page in Chromium: live numbers, bars, a retry, its key, access, and a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.people import post
from tests.npm import install
from tests.servers import ApiServer

NewContext = Callable[..., BrowserContext]
PHONE = {"width": 320, "height": 720}
BAD = """{"specversion": "1.0", "id": "%s", "source": "/billing", "type": "grade.posted", "tenant": "uni-berlin",
          "data": {"student_id": "ada"}}"""
LARGE = """INSERT INTO events (tenant, source, id, type, data, occurred_at, state, content_hash)
           VALUES ('uni-berlin', '/tests', 'large', 'system.announcement', '{}', now(), 'fanning_out', '\\x00')
           RETURNING key"""
#: Chunks that were tried just now are left alone by the sweeper for a while.
CHUNKS = """INSERT INTO fan_out_chunks (event_key, number, after_key, up_to_key, state, tried_at)
            SELECT %s, n, n, n + 1, CASE WHEN n <= 3 THEN 'done' ELSE 'pending' END, now() + interval '1 h'
            FROM generate_series(1, 10) n"""


@pytest.fixture
def database(stack_env: dict[str, str]) -> Iterator[psycopg.Connection]:
    """A session on the stack's database; events and chunks of this module's tests are taken away after each."""
    with psycopg.connect(stack_env["CARILLON_DATABASE_URL"], autocommit=True) as session:
        yield session
        session.execute("DELETE FROM events WHERE source IN ('/tests', '/billing')")


def _opened(new_context: NewContext, **options: object) -> Page:
    page = new_context(**options).new_page()
    page.goto("/ops")
    expect(page.locator("#state")).to_have_text("Live")
    return page


def _number(page: Page, tile: str) -> str:
    return page.locator(".tile", has=page.get_by_role("heading", name=tile, exact=True)).locator(".value").inner_text()


def test_numbers_move_by_themselves(new_context: NewContext, api_server: ApiServer) -> None:
    page = _opened(new_context)
    for _ in range(5):
        post(api_server.url)
    tile = page.locator(".tile", has=page.get_by_role("heading", name="Accepted", exact=True)).locator(".value")
    expect(tile).not_to_have_text("0events/s")
    expect(page.locator("#types")).to_contain_text("certificate")
    expect(page.locator("#jobs")).to_contain_text("sweep")
    expect(page.locator("#lanes")).to_contain_text("urgent")


def test_a_large_event_has_a_bar_that_says_how_far_it_is(
    new_context: NewContext, database: psycopg.Connection, api_server: ApiServer
) -> None:
    page = _opened(new_context)
    expect(page.locator("#fan-outs")).to_contain_text("None")
    row = database.execute(LARGE).fetchone()
    assert row is not None
    database.execute(CHUNKS, row)
    bar = page.get_by_role("progressbar", name="system.announcement large")
    expect(bar).to_have_js_property("position", 0.3)
    expect(page.locator("#fan-outs")).to_contain_text("3 of 10 chunks")
    database.execute("UPDATE fan_out_chunks SET state = 'done' WHERE number = 4")
    expect(bar).to_have_js_property("position", 0.4)


def test_a_failed_event_tells_its_reason_and_is_retried_by_its_button(
    new_context: NewContext, database: psycopg.Connection, api_server: ApiServer
) -> None:
    page = _opened(new_context)
    database.execute("SELECT carillon_publish(%s::jsonb)", (BAD % "<b>bad</b>",))
    failed = page.locator("#failed li", has_text="<b>bad</b>")
    expect(failed).to_contain_text("data.grade is required")
    assert _number(page, "Failed") != "0events"
    before = failed.get_attribute("data-finished")
    failed.get_by_role("button").click()
    expect(page.locator("#said")).to_have_text("<b>bad</b> will be tried again.")
    # It fails anew, and may be tried once more.
    expect(page.locator("#failed li", has_text="<b>bad</b>").get_by_role("button", name="Retry")).to_be_enabled()
    expect(failed).not_to_have_attribute("data-finished", before or "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_cut_off_on_a_phone(
    new_context: NewContext, database: psycopg.Connection, api_server: ApiServer, scheme: str
) -> None:
    database.execute("SELECT carillon_publish(%s::jsonb)", (BAD % "bad",))
    row = database.execute(LARGE).fetchone()
    assert row is not None
    database.execute(CHUNKS, row)
    for options in ({}, {"viewport": PHONE}):
        page = _opened(new_context, color_scheme=scheme, reduced_motion="reduce", **options)
        expect(page.locator("#failed li").first).to_contain_text("bad")
        expect(page.get_by_role("progressbar")).to_have_count(1)
        page.evaluate((install() / "axe-core" / "axe.min.js").read_text())
        assert page.evaluate("axe.run(document).then((r) => r.violations.map((v) => v.id + v.nodes[0].html))") == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_server_that_comes_back_is_followed_again(new_context: NewContext, api_server: ApiServer) -> None:
    page = _opened(new_context)
    api_server.restart()
    expect(page.locator("#state")).to_have_text("Reconnecting")
    expect(page.locator("#state")).to_have_text("Live", timeout=60_000)


def test_where_a_key_is_wanted_the_page_asks_for_it_and_forgets_it_with_a_reload(
    new_context: NewContext, api_server: ApiServer
) -> None:
    context = new_context()
    asked: list[str | None] = []

    def as_in_production(route: object) -> None:
        request = route.request  # type: ignore[attr-defined]
        asked.append(request.headers.get("authorization"))
        if asked[-1] == "Bearer ck_right":
            headers = {name: value for name, value in request.headers.items() if name != "authorization"}
            route.continue_(headers=headers)  # type: ignore[attr-defined]
        else:
            route.fulfill(status=401, json={"detail": "The producer key is not valid."})  # type: ignore[attr-defined]

    context.route("**/api/ops/stream", as_in_production)
    page = context.new_page()
    page.goto("/ops")
    page.get_by_label("Key").fill("ck_wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_have_text("The producer key is not valid.")
    expect(page.locator("#board")).to_be_hidden()
    page.get_by_label("Key").fill("ck_right")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("Live")
    expect(page.get_by_role("alert")).to_be_hidden()
    assert page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])") == '[{},{},""]'
    page.reload()
    expect(page.get_by_label("Key")).to_be_focused()
    assert asked == [None, "Bearer ck_wrong", "Bearer ck_right", None]
