"""The demonstration: people of a domain side by side; what one does, the others hear."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import is_live

Desk = Callable[[str], Locator]


@pytest.fixture
def open_domain(new_context: Callable[..., BrowserContext]) -> Callable[[str], tuple[Page, Desk]]:
    """Open a domain and wait until everybody listens; returns the page and who sits where."""

    def opened(domain: str) -> tuple[Page, Desk]:
        page = new_context().new_page()
        page.goto(f"/#{domain}")
        count = page.locator("#desks").get_attribute
        page.wait_for_selector("#desks[data-people] .desk")
        for each in range(int(count("data-people") or 0)):
            expect(page.locator("carillon-status .status").nth(each)).to_have_class("status live")
        return page, lambda person: page.locator(f'.desk[data-person="{person}"]')

    return opened


def hears(desk: Locator, title: str, unread: int) -> None:
    expect(desk.locator(".bell")).to_have_attribute("aria-label", f"Notifications, {unread} unread")
    if unread:
        expect(desk.locator("article").first).to_contain_text(title)


def test_a_certificate_reaches_student_and_admin_in_words_of_their_own_and_nobody_else(
    open_domain: Callable[[str], tuple[Page, Desk]],
) -> None:
    page, desk = open_domain("credentials")
    page.get_by_role("button", name="Issue a certificate").click()
    hears(desk("uni-berlin/ada"), "Your certificate", 1)
    hears(desk("uni-berlin/grace"), "Certificate Issued to a Student", 1)
    hears(desk("uni-berlin/mira"), "", 0)
    hears(desk("platform/sam"), "", 0)
    expect(page.locator("#log li").first).to_contain_text("certificate.issued")
    expect(page.locator("#log li").first).to_contain_text("Ada after")


@pytest.mark.parametrize(
    ("domain", "action", "who", "title", "not_told"),
    [
        ("helpdesk", "Assign a ticket to Grace", "helpdesk-acme/grace", "Ticket Assigned to You", "helpdesk-acme/ada"),
        ("learning", "Post a grade", "learn-acme/ada", "Grade Posted", "learn-acme/grace"),
        ("introductions", "Request an introduction", "people-acme/grace", "Introduction Requested", "people-acme/ada"),
        ("leads", "Assign the lead to Ada", "crm-acme/ada", "Lead Assigned to You", "crm-acme/grace"),
    ],
)
def test_in_each_domain_the_other_hears_and_who_acted_does_not(
    open_domain: Callable[[str], tuple[Page, Desk]], *, domain: str, action: str, who: str, title: str, not_told: str
) -> None:
    page, desk = open_domain(domain)
    page.get_by_role("button", name=action).click()
    hears(desk(who), title, 1)
    hears(desk(not_told), "", 0)


def test_every_action_of_every_domain_is_accepted(open_domain: Callable[[str], tuple[Page, Desk]]) -> None:
    pressed = 0
    page, _ = open_domain("credentials")
    for domain in ("credentials", "helpdesk", "learning", "introductions", "leads"):
        page.locator(f'#domains a[data-id="{domain}"]').click()
        expect(page.locator("#domains a[aria-current]")).to_have_attribute("data-id", domain)
        for button in page.locator(".desk > .actions > button").all():
            button.click()
            expect(page.locator("#log li").first).to_contain_text("accepted in")
            pressed += 1
    assert pressed == 29


def test_the_language_of_the_notifications_can_be_chosen(open_domain: Callable[[str], tuple[Page, Desk]]) -> None:
    page, desk = open_domain("helpdesk")
    page.get_by_label("Language of the notifications").select_option("ar")
    expect(desk("helpdesk-acme/ada").locator("carillon-inbox .root")).to_have_attribute("dir", "rtl")
    expect(desk("helpdesk-acme/ada").locator("carillon-inbox")).to_contain_text("كل شيء هادئ")


def test_the_full_page_opens_from_the_desk(open_domain: Callable[[str], tuple[Page, Desk]]) -> None:
    page, desk = open_domain("leads")
    page.get_by_role("button", name="Assign the lead to Ada").click()
    hears(desk("crm-acme/ada"), "Lead Assigned to You", 1)
    desk("crm-acme/ada").get_by_role("link", name="Open the inbox").click()
    is_live(page)
    expect(page.locator("carillon-inbox article")).to_have_count(1)
    expect(page.get_by_label("You are")).to_have_value("#crm-acme/ada")
