"""What the browser's tests do with the demo people: post events, read inboxes, wait for the elements."""

from __future__ import annotations

import re
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

#: Who hears `certificate.minted` for Ada: Ada, and the university's admin.
ADA = ("uni-berlin", "ada")


def post(server: str, type_: str = "certificate.minted", tenant: str = "uni-berlin", **data: Any) -> str:
    """Post an event as the demonstration does; returns its id."""
    default = {"student_id": "ada", "certificate_id": "c-1", "badge_title": "Compilers"}
    event = {"type": type_, "tenant": tenant, "data": data or default}
    answer = httpx.post(f"{server}/api/demo/events", json=event, timeout=30)
    assert answer.status_code == 202, answer.text
    told: str = answer.json()["id"]
    return told


def urgent(server: str) -> str:
    """Post what is URGENT for the university's admin, Grace."""
    return post(server, "security.account_locked", account_id="ada", ip="203.0.113.9")


def high(server: str) -> str:
    """Post what is HIGH for Ada."""
    return post(server, "security.wallet_linked", student_id="ada", wallet_address="9xQeWvG816bUx9EPjHmaT23")


def token(server: str, tenant: str = "uni-berlin", recipient: str = "ada") -> str:
    """Return a token of one of the demo people."""
    answer = httpx.post(f"{server}/api/demo/session", json={"tenant": tenant, "recipient": recipient}, timeout=30)
    made: str = answer.json()["token"]
    return made


def inbox(server: str, first: int = 100, **who: str) -> dict[str, Any]:
    """Return the first page of somebody's inbox (Ada's), as the server has it."""
    headers = {"authorization": f"Bearer {token(server, **who)}"}
    told: dict[str, Any] = httpx.get(f"{server}/api/notifications?first={first}", headers=headers, timeout=30).json()
    return told


def bell(page: Page) -> Locator:
    """Return the bell's button."""
    return page.locator("carillon-bell .bell")


def shows_unread(page: Page, count: int, within_ms: float = 20_000) -> None:
    """Wait until the bell tells `count`, with its true number for readers and at most two digits to see."""
    expect(bell(page)).to_have_attribute("aria-label", f"Notifications, {count} unread", timeout=within_ms)
    if count:
        expect(page.locator("carillon-bell .badge")).to_have_text("99+" if count > 99 else str(count))
    else:
        expect(page.locator("carillon-bell .badge")).to_be_hidden()


def shows_status(page: Page, words: str, within_ms: float = 20_000) -> None:
    """Wait until the status tells one of `words`, a regular expression."""
    expect(page.locator("carillon-status .status")).to_have_text(re.compile(words), timeout=within_ms)
