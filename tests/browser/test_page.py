"""The form for any event, and what it does to the inbox beside it, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import psycopg
import pytest
from celery import Celery
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import is_live
from tests.eventually import eventually
from tests.servers import ApiServer

OpenPage = Callable[..., Page]
HOSTILE = '<img src=x onerror="window.broken = true"><script>window.broken = true</script>'


def send(page: Page, event_type: str, **fields: str) -> None:
    """Send an event through the form, and return when the page has told that it is done."""
    page.get_by_label("Event type").select_option(event_type)
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " "), exact=True).fill(value)
    page.get_by_role("button", name="Send event").click()
    expect(page.locator("#answer")).to_contain_text("Done")


def inbox(page: Page) -> Locator:
    return page.locator("carillon-inbox")


def row(page: Page, place: int) -> Locator:
    """Return the article at `place`, with the pointer on it: that shows its actions."""
    article = inbox(page).locator("article").nth(place)
    article.hover()
    return article


def titles(page: Page) -> list[str]:
    return page.locator("carillon-inbox .head > .title").all_text_contents()


def shows(page: Page, expected: list[str]) -> None:
    """Wait until the list's titles are `expected`, newest first."""

    def same() -> bool:
        assert titles(page) == expected
        return True

    eventually(same, within=30)


def badge(page: Page, count: int) -> None:
    """Wait until the bell shows `count`, in its badge and in its name; none at all where nothing is unread."""
    expect(page.locator("carillon-bell .bell")).to_have_attribute("aria-label", f"Notifications, {count} unread")
    if count:
        expect(page.locator("carillon-bell .badge")).to_have_text(str(count))
    else:
        expect(page.locator("carillon-bell .badge")).to_be_hidden()


def test_an_event_sent_from_the_form_changes_bell_and_list_without_a_reload(open_page: OpenPage) -> None:
    page = open_page("uni-berlin", "ada")
    badge(page, 0)
    expect(inbox(page).get_by_text("All quiet")).to_be_visible()
    page.evaluate("window.notReloaded = true")
    send(page, "certificate.issued", Badge_title="Compilers")
    badge(page, 1)
    send(page, "achievement.awarded", Title="First in Class")
    badge(page, 2)
    shows(page, ["Achievement Awarded", "Certificate Issued"])
    first = inbox(page).locator("article").nth(1)
    expect(first).to_contain_text(
        'Your certificate "Compilers" has been issued and is pending blockchain confirmation.'
    )
    expect(page).to_have_title("(2) Any event · Carillon")
    assert page.evaluate("window.notReloaded") is True


def test_another_tab_of_the_same_person_follows_every_change(
    open_page: OpenPage, new_context: Callable[..., BrowserContext]
) -> None:
    context = new_context()
    here, there = open_page("uni-berlin", "ada", context), open_page("uni-berlin", "ada", context)
    send(here, "certificate.issued")
    send(here, "certificate.minted")
    badge(there, 2)
    shows(there, ["Certificate Minted on Blockchain", "Certificate Issued"])
    shows(here, ["Certificate Minted on Blockchain", "Certificate Issued"])
    row(there, 1).get_by_role("button", name="Mark read").click()
    badge(here, 1)
    expect(row(here, 1)).not_to_have_class(re.compile("unread"))
    row(here, 1).get_by_role("button", name="Mark unread").click()
    badge(there, 2)
    inbox(there).get_by_role("button", name="Mark all read").click()
    badge(here, 0)
    expect(inbox(here).locator("article.unread")).to_have_count(0)
    row(here, 0).get_by_role("button", name="Delete").click()
    expect(inbox(there).locator("article")).to_have_count(1)
    shows(there, ["Certificate Issued"])
    inbox(there).get_by_role("button", name="Delete read").click()
    expect(inbox(here).get_by_text("All quiet")).to_be_visible()


def test_opening_the_bell_marks_everything_as_seen_and_leaves_it_unread(open_page: OpenPage) -> None:
    page = open_page("uni-berlin", "ada")
    send(page, "certificate.issued")
    expect(page.locator(".bell")).to_have_class(re.compile("new"))
    page.locator(".bell").click()
    expect(page.locator(".bell")).not_to_have_class(re.compile("new"))
    badge(page, 1)


def test_each_person_sees_their_own_inbox_alone(open_page: OpenPage) -> None:
    page = open_page("uni-berlin", "ada")
    send(page, "certificate.issued")
    badge(page, 1)
    page.get_by_label("You are").select_option("#uni-berlin/grace")
    badge(page, 1)
    shows(page, ["Certificate Issued to a Student"])
    page.get_by_label("You are").select_option("#uni-berlin/mira")
    badge(page, 0)
    shows(page, [])


def test_hostile_text_stays_text(open_page: OpenPage) -> None:
    page = open_page("uni-berlin", "ada")
    send(page, "system.announcement", Title=HOSTILE, Message=HOSTILE)
    badge(page, 1)
    item = inbox(page).locator("article")
    shows(page, [HOSTILE])
    expect(item.locator("p")).to_have_text(HOSTILE)
    assert item.locator("img, script").count() == 0
    assert page.evaluate("window.broken") is None


def test_a_refused_event_marks_the_fields_that_are_wrong(open_page: OpenPage) -> None:
    page = open_page("uni-berlin", "ada")
    page.get_by_label("Event type").select_option("batch_job.completed")
    page.get_by_label("Job name").fill("")
    page.get_by_label("Total").fill("-1")
    page.get_by_role("button", name="Send event").click()
    expect(page.locator("[aria-invalid=true]")).to_have_count(2)
    expect(page.get_by_label("Job name")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Total")).to_have_accessible_description("must be at least 0")
    page.get_by_label("Job name").fill("Import")
    page.get_by_label("Total").fill("2")
    page.get_by_role("button", name="Send event").click()
    expect(page.locator("#answer")).to_contain_text("Done")
    expect(page.locator("[aria-invalid=true]")).to_have_count(0)


@pytest.mark.parametrize("person", [("uni-berlin", "ada"), ("platform", "sam")])
def test_every_type_of_the_catalog_can_be_sent_as_its_form_is_prefilled(
    open_page: OpenPage, person: tuple[str, str]
) -> None:
    page = open_page(*person)
    kinds = page.locator("#type option").evaluate_all("options => options.map((option) => option.value)")
    assert len(kinds) == len(set(kinds)) > 40
    for kind in kinds:
        page.get_by_label("Event type").select_option(kind)
        with page.expect_response("**/api/demo/events") as answer:
            page.get_by_role("button", name="Send event").click()
        assert (kind, answer.value.status) == (kind, 202)
        expect(page.get_by_role("button", name="Send event")).to_be_enabled()


def test_a_notification_that_is_told_anew_changes_in_its_place_and_rings_no_second_time(
    open_page: OpenPage, stack_env: dict[str, str], api_server: ApiServer
) -> None:
    """There is no beat behind this server: the test queues its job, and lets the minute between two tellings pass."""
    page = open_page("uni-berlin", "grace")
    with (
        Celery(broker=stack_env["CARILLON_BROKER_URL"]) as queue,
        psycopg.connect(stack_env["CARILLON_DATABASE_URL"], autocommit=True) as session,
    ):

        def count_failures(many: int) -> None:
            for _ in range(many):
                event = {"type": "auth.login_failed", "tenant": "uni-berlin", "data": {"account_id": "mallory"}}
                assert httpx.post(f"{api_server.url}/api/demo/events", json=event).status_code == 202
            done = "SELECT count(*) = 0 FROM events WHERE state <> 'done'"
            eventually(lambda: session.execute(done).fetchone() == (True,), within=30)
            queue.send_task("carillon.failed_logins", queue="carillon.maintenance")

        count_failures(3)
        badge(page, 1)
        send(page, "certificate.issued")
        badge(page, 2)
        told = row(page, 1)
        expect(told).to_contain_text("3 failed logins for the account mallory")
        told.get_by_role("button", name="Mark read").click()
        badge(page, 1)
        session.execute("UPDATE failed_login_windows SET told_at = told_at - interval '1 min'")
        count_failures(2)
        expect(told).to_contain_text("5 failed logins for the account mallory")
        expect(told).not_to_have_class(re.compile("unread"))
        badge(page, 1)
        shows(page, ["Certificate Issued", "Repeated Failed Logins"])


def test_after_a_restart_of_the_server_the_page_goes_on_where_it_was(
    open_page: OpenPage, api_server: ApiServer
) -> None:
    page = open_page("uni-berlin", "ada")
    send(page, "certificate.issued")
    badge(page, 1)
    api_server.stop()
    expect(page.locator("carillon-status .status")).to_have_text(re.compile("Reconnecting|Offline"))
    api_server.start()
    event = {
        "type": "achievement.awarded",
        "tenant": "uni-berlin",
        "data": {"student_id": "ada", "achievement_id": "a-1", "title": "Patience"},
    }
    assert httpx.post(f"{api_server.url}/api/demo/events", json=event).status_code == 202
    is_live(page, within_ms=40_000)
    badge(page, 2)
    shows(page, ["Achievement Awarded", "Certificate Issued"])


def test_a_long_inbox_is_shown_page_by_page(open_page: OpenPage, api_server: ApiServer) -> None:
    page = open_page("uni-berlin", "ada")
    for number in range(25):
        data = {"student_id": "ada", "certificate_id": f"c-{number}", "badge_title": f"Badge {number}"}
        event = {"type": "certificate.minted", "tenant": "uni-berlin", "data": data}
        assert httpx.post(f"{api_server.url}/api/demo/events", json=event).status_code == 202
    badge(page, 25)
    page.reload()
    expect(inbox(page).locator("article")).to_have_count(25)
    expect(page.get_by_role("button", name="Load more")).to_be_hidden()
    shows(page, ["Certificate Minted on Blockchain"] * 25)
