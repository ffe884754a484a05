"""Take the pictures of the documentation from a running Carillon: `make screenshots`, after `make up`.

Needs the development environment and Chromium (`CARILLON_CHROMIUM` names another one). The font Inter is used where it
is installed (Debian: fonts-inter).
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESKTOP, WIDE, PHONE = (1280, 860), (1440, 900), (390, 844)
ADA, STUDENT = "uni-berlin/ada", "learn-acme/ada"
PEOPLE = (
    ADA,
    "uni-berlin/grace",
    "uni-berlin/mira",
    "platform/sam",
    STUDENT,
    "helpdesk-acme/ada",
    "helpdesk-acme/grace",
)
#: A busy machine takes its time.
PATIENCE_MS = 30_000
HTTP = httpx.Client(timeout=PATIENCE_MS / 1000)
#: Of each kind one, the last ones on top.
EVENTS = (
    ("enrollment.added", {"student_id": "ada", "enrollment_id": "e-1", "course_name": "Cryptography"}),
    ("achievement.awarded", {"student_id": "ada", "achievement_id": "a-2", "title": "Hundred Days"}),
    ("certificate.issued", {"student_id": "ada", "certificate_id": "c-1", "badge_title": "Linear Algebra"}),
    ("achievement.awarded", {"student_id": "mira", "achievement_id": "a-1", "title": "First in Class"}),
    ("security.new_device", {"account_id": "ada", "device": "Firefox on Linux", "location": "Berlin"}),
    ("university.approved", {"university_id": "uni-berlin", "university_name": "University of Berlin"}),
    ("zk_proof.verified", {"student_id": "mira", "proof_id": "p-1", "claim": "Grade above average"}),
    ("security.wallet_linked", {"student_id": "ada", "wallet_address": "9xQeWvG816bUx9EP"}),
    ("certificate.minted", {"student_id": "ada", "certificate_id": "c-2", "badge_title": "Compilers"}),
    ("security.account_locked", {"account_id": "ada", "ip": "203.0.113.9"}),
)
#: What is told in Arabic: title and message.
ANNOUNCEMENTS = (
    ("أهلًا بك", "سُجّلت في مقرر التشفير."),
    ("نتائج الامتحان", "أُعلنت درجات مقرر التشفير، ويمكنك الاطلاع عليها الآن."),
    ("صيانة يوم الأحد", "المنصة للقراءة فقط من السادسة إلى السابعة صباحًا."),
    ("موعد المحاضرة", "نُقلت محاضرة يوم الجمعة إلى القاعة 12."),
)
_ticket = {"ticket_id": "1042", "ticket_title": "Printer on fire", "actor_id": "ada", "actor_name": "Ada"}
TICKETS = (
    ("comment.added", {**_ticket, "comment_id": "k-1", "excerpt": "I can reproduce it on the second floor."}),
    ("ticket.status_changed", {**_ticket, "status": "reopened"}),
)
#: Everything was posted a moment ago; in the pictures an inbox spans days: so many minutes each, newest first.
AGES_MIN = (1, 12, 47, 180, 60 * 26, 60 * 50, 60 * 24 * 6, 60 * 24 * 9)
#: So many of the newest are left unread.
UNREAD = 3
#: The animated picture: the times of its frames, in milliseconds after the arrival (the motion is quick at first, then
#: a colour fades), and how long the pictures before and after it stand.
MOMENTS_MS = (*range(0, 600, 40), *range(600, 2500, 100))
BEFORE_MS, AFTER_MS = 1200, 2600
#: How often it is asked whether everybody has been told.
ASK_S = 0.05
ANIMATED, SHOWN_WIDTH = (980, 640), 760
#: The colours of a GIF that suffice for a page of few.
COLOURS = 255
#: Where there is a choice, the pictures' letters are these.
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<include ignore_missing="yes">/etc/fonts/fonts.conf</include>
{}</fontconfig>"""
FONT = """<match target="pattern"><test qual="any" name="family"><string>{}</string></test>
<edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit></match>
"""
GENERIC = ("system-ui", "sans", "sans-serif")


def _headers(server: str, person: str) -> dict[str, str]:
    tenant, recipient = person.split("/")
    who = {"tenant": tenant, "recipient": recipient}
    token = HTTP.post(f"{server}/api/demo/session", json=who).json()["token"]
    return {"authorization": f"Bearer {token}"}


def _post(server: str, tenant: str, type_: str, data: Mapping[str, object]) -> None:
    """Post an event, and return when everybody has been told."""
    answer = HTTP.post(f"{server}/api/demo/events", json={"type": type_, "tenant": tenant, "data": data})
    event = answer.raise_for_status().json()["id"]
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while HTTP.get(f"{server}/api/demo/events/{event}?tenant={tenant}").json()["state"] != "done":
        if time.monotonic() > deadline:
            raise SystemExit(f"Nobody was told of {type_}: is a worker running?")
        time.sleep(ASK_S)


def _fill(server: str) -> None:
    """Give the people something to read, in inboxes emptied before; all but the latest is read."""
    HTTP.get(f"{server}/api/demo/people")
    for person in PEOPLE:
        headers = _headers(server, person)
        HTTP.post(f"{server}/api/notifications/read-all", headers=headers)
        HTTP.delete(f"{server}/api/notifications?read=true", headers=headers)
    for type_, data in EVENTS:
        _post(server, "uni-berlin", type_, data)
    for type_, data in TICKETS:
        _post(server, "helpdesk-acme", type_, data)
    for title, message in ANNOUNCEMENTS:
        told = {"title": title, "message": message, "audience": {"tenant": "learn-acme"}}
        _post(server, "learn-acme", "system.announcement", told)
    for person in PEOPLE:
        headers = _headers(server, person)
        for node in HTTP.get(f"{server}/api/notifications", headers=headers).json()["nodes"][UNREAD:]:
            HTTP.patch(f"{server}/api/notifications/{node['id']}", headers=headers, json={"read": True})


def _aged(route: Route) -> None:
    """Answer with the page as the server has it, its notifications as old as `AGES_MIN` says."""
    answer = route.fetch()
    page = answer.json()
    for node, minutes in zip(page.get("nodes", []), AGES_MIN, strict=False):
        node["createdAt"] = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
    route.fulfill(response=answer, json=page)


@contextmanager
def _page(browser: Browser, address: str, scheme: str, size: tuple[int, int]) -> Iterator[Page]:
    """Open a page whose elements are live, without motion; a narrow one is a phone's."""
    width, height = size
    context = browser.new_context(
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": width, "height": height},
        has_touch=size == PHONE,
        is_mobile=size == PHONE,
        device_scale_factor=2 if size == PHONE else 1,
        reduced_motion="reduce",
        base_url=address.partition("#")[0],
    )
    page = context.new_page()
    page.route("**/api/notifications?*", _aged)
    page.goto(address)
    expect(page.locator("carillon-status .status").first).to_have_class("status live")
    expect(page.locator("carillon-inbox article").first).to_be_visible()
    yield page
    page.unroute_all(behavior="wait")
    context.close()


def _open_bell(page: Page) -> None:
    page.locator("carillon-bell .bell").first.click()
    expect(page.locator("carillon-bell article").first).to_be_visible()


def _archived(page: Page) -> None:
    page.get_by_role("button", name="Archived", exact=True).click()
    expect(page.locator("carillon-inbox .empty")).to_be_visible()


def _offline(page: Page) -> None:
    page.context.set_offline(True)
    page.evaluate("(({ client }) => { client.stop(); client.start(); })(document.querySelector('carillon-bell'))")
    expect(page.locator("carillon-inbox .note")).to_be_visible()
    page.locator("carillon-inbox article").nth(1).hover()


def _refused(page: Page) -> None:
    broken = {"title": "The database is being moved."}
    page.route("**/api/notifications/*", lambda route: route.fulfill(status=503, json=broken))
    article = page.locator("carillon-inbox article").first
    article.hover()
    article.get_by_role("button", name="Mark read").click()
    expect(page.locator("carillon-inbox .note")).to_be_visible()


def _toasts(page: Page) -> None:
    """An urgent one stays, so it is there until the picture is taken."""
    data = {"account_id": "ada", "ip": "203.0.113.9"}
    page.request.post(
        "/api/demo/events", data={"type": "security.account_locked", "tenant": "uni-berlin", "data": data}
    )
    expect(page.locator("carillon-toasts .toast")).to_have_count(1)


def _nothing(_: Page) -> None:
    """Take the page as it opens."""


#: Name → address, scheme, size, and what is done before the picture is taken.
PICTURES: dict[str, tuple[str, str, tuple[int, int], Callable[[Page], None]]] = {
    "demo-light": ("/#credentials", "light", WIDE, _nothing),
    "demo-dark": ("/#credentials", "dark", WIDE, _nothing),
    "demo-phone": ("/#credentials", "light", PHONE, _nothing),
    "inbox-light": (f"/notifications#{ADA}", "light", DESKTOP, _nothing),
    "inbox-dark": (f"/notifications#{ADA}", "dark", DESKTOP, _nothing),
    "inbox-phone": (f"/notifications#{ADA}", "dark", PHONE, _nothing),
    "inbox-empty": (f"/notifications#{ADA}", "light", DESKTOP, _archived),
    "inbox-offline": (f"/notifications#{ADA}", "light", DESKTOP, _offline),
    "inbox-refused": (f"/notifications#{ADA}", "light", DESKTOP, _refused),
    "inbox-rtl": (f"/notifications?lang=ar#{STUDENT}", "light", DESKTOP, _nothing),
    "bell-light": ("/#helpdesk", "light", DESKTOP, _open_bell),
    "bell-dark": ("/#helpdesk", "dark", DESKTOP, _open_bell),
    "bell-phone": (f"/notifications#{ADA}", "light", PHONE, _open_bell),
    "events": (f"/events#{ADA}", "light", DESKTOP, _nothing),
    "toast": ("/notifications#uni-berlin/grace", "light", DESKTOP, _toasts),
}


def _arrival(browser: Browser, server: str) -> None:
    """Write an animated picture: Ada presses a button, Grace's bell rings, her inbox moves, a toast comes.

    Its motion is seen at times of our choosing, however long a picture takes: the page's timers stand still, and its
    animations are moved on by hand.
    """
    width, height = ANIMATED
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light", base_url=server)
    page = context.new_page()
    page.route("**/api/notifications?*", _aged)
    page.clock.install()
    page.goto("/#helpdesk")
    expect(page.locator("carillon-status .status").first).to_have_class("status live")
    expect(page.locator("carillon-inbox article").first).to_be_visible()
    session = context.new_cdp_session(page)
    running: list[str] = []
    session.on("Animation.animationStarted", lambda told: running.append(told["animation"]["id"]))
    session.send("Animation.enable")
    page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=PATIENCE_MS / 1000))
    frames = [(_picture(page), BEFORE_MS)]
    session.send("Animation.setPlaybackRate", {"playbackRate": 0})
    page.get_by_role("button", name="Assign a ticket to Grace").click()
    expect(page.locator("carillon-toasts .toast")).to_be_visible()
    for at, after in pairwise((*MOMENTS_MS, MOMENTS_MS[-1] + AFTER_MS)):
        session.send("Animation.seekAnimations", {"animations": running, "currentTime": at})
        frames.append((_picture(page), after - at))
    page.unroute_all(behavior="wait")
    context.close()
    palette = _above(frames[len(frames) // 3][0], frames[-1][0]).quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame, _ in frames]
    durations = [stands for _, stands in frames]
    small[0].save(
        IMAGES / "arrival.gif", save_all=True, append_images=small[1:], duration=durations, loop=0, optimize=True
    )


def _above(one: Image.Image, other: Image.Image) -> Image.Image:
    both = Image.new("RGB", (one.width, one.height + other.height))
    both.paste(one, (0, 0))
    both.paste(other, (0, one.height))
    return both


def _picture(page: Page) -> Image.Image:
    whole = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return whole.resize((SHOWN_WIDTH, whole.height * SHOWN_WIDTH // whole.width), Image.Resampling.LANCZOS)


@contextmanager
def _browser() -> Iterator[Browser]:
    """Chromium, with the letters of `FONTS` where they are installed."""
    executable = os.environ.get("CARILLON_CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        fonts = Path(folder) / "fonts.conf"
        fonts.write_text(FONTS.format("".join(FONT.format(name) for name in GENERIC)))
        environment: dict[str, str | float | bool] = {**os.environ, "FONTCONFIG_FILE": str(fonts)}
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS, env=environment)
        yield browser
        browser.close()


def main(server: str) -> None:
    """Write every picture of `PICTURES` and the animated one."""
    IMAGES.mkdir(exist_ok=True)
    _fill(server)
    expect.set_options(timeout=PATIENCE_MS)
    with _browser() as browser:
        _arrival(browser, server)
        for name, (address, scheme, size, prepare) in PICTURES.items():
            with _page(browser, server + address, scheme, size) as page:
                prepare(page)
                page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000")
