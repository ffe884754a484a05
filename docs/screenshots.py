"""Take the pictures of the documentation from a running Carillon: `make screenshots`, after `make up`.

Needs the development environment and Chromium (`CARILLON_CHROMIUM` names another one).
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESKTOP, PHONE, NARROW = (1280, 860), (390, 844), (720, 300)
ADA = "#uni-berlin/ada"
PEOPLE = ("uni-berlin/ada", "uni-berlin/grace", "uni-berlin/mira", "platform/sam")
#: A busy machine takes its time.
PATIENCE_MS = 30_000
#: Of each kind one, the last ones on top.
EVENTS = (
    ("enrollment.added", {"student_id": "ada", "enrollment_id": "e-1", "course_name": "Cryptography"}),
    ("certificate.issued", {"student_id": "ada", "certificate_id": "c-1", "badge_title": "Linear Algebra"}),
    ("achievement.awarded", {"student_id": "mira", "achievement_id": "a-1", "title": "First in Class"}),
    ("security.wallet_linked", {"student_id": "ada", "wallet_address": "9xQeWvG816bUx9EPjHmaT23"}),
    ("university.approved", {"university_id": "uni-berlin", "university_name": "University of Berlin"}),
    ("zk_proof.verified", {"student_id": "mira", "proof_id": "p-1", "claim": "Grade above average"}),
    ("certificate.minted", {"student_id": "ada", "certificate_id": "c-2", "badge_title": "Compilers"}),
    ("security.account_locked", {"account_id": "ada", "ip": "203.0.113.9"}),
)
#: The animated picture: how long its frames stand, in milliseconds, and how wide it is.
FRAME_MS = 90
FRAMES = 26
LAST_MS = 2500
ARRIVES_AT = 6
#: A picture takes longer to make than a frame stands: meanwhile motion is slowed down to this part of its speed.
SLOWED = 0.2
#: The colours of a GIF that suffice for a page of few.
COLOURS = 96


def _fill(server: str) -> None:
    """Give Ada and the others something to read, in inboxes emptied before."""
    httpx.get(f"{server}/api/demo/people")
    for person in PEOPLE:
        tenant, recipient = person.split("/")
        who = {"tenant": tenant, "recipient": recipient}
        token = httpx.post(f"{server}/api/demo/session", json=who).json()["token"]
        headers = {"authorization": f"Bearer {token}"}
        httpx.post(f"{server}/api/notifications/read-all", headers=headers)
        httpx.delete(f"{server}/api/notifications?read=true", headers=headers)
    for type_, data in EVENTS:
        event = {"type": type_, "tenant": "uni-berlin", "data": data}
        httpx.post(f"{server}/api/demo/events", json=event).raise_for_status()


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
    )
    page = context.new_page()
    page.goto(address)
    expect(page.locator("carillon-status .status").first).to_have_class("status live")
    expect(page.locator("carillon-inbox article").first).to_be_visible()
    yield page
    context.close()


def _open_bell(page: Page) -> None:
    page.locator("carillon-bell .bell").click()
    expect(page.locator("carillon-bell article").first).to_be_visible()


def _nothing(_: Page) -> None:
    """Take the page as it opens."""


#: Name → address, scheme, size, and what is done before the picture is taken.
PICTURES: dict[str, tuple[str, str, tuple[int, int], Callable[[Page], None]]] = {
    "demo-light": ("/#credentials", "light", (1440, 900), _nothing),
    "demo-dark": ("/#credentials", "dark", (1440, 900), _nothing),
    "demo-phone": ("/#credentials", "light", PHONE, _nothing),
    "inbox-light": (f"/notifications{ADA}", "light", DESKTOP, _nothing),
    "inbox-dark": (f"/notifications{ADA}", "dark", DESKTOP, _nothing),
    "inbox-phone": (f"/notifications{ADA}", "dark", PHONE, _nothing),
    "bell-light": (f"/notifications{ADA}", "light", DESKTOP, _open_bell),
    "bell-phone": (f"/notifications{ADA}", "light", PHONE, _open_bell),
    "bell-rtl": (f"/notifications?lang=ar{ADA}", "light", DESKTOP, _open_bell),
    "events": (f"/events{ADA}", "light", DESKTOP, _nothing),
}


def _arrival(browser: Browser, server: str) -> None:
    """Write an animated picture of an event that arrives: the bell rings, the inbox moves, a toast comes."""
    context = browser.new_context(viewport={"width": 760, "height": 420}, color_scheme="light")
    page = context.new_page()
    page.goto(f"{server}/notifications{ADA}")
    expect(page.locator("carillon-status .status")).to_have_class("status live")
    session = context.new_cdp_session(page)
    session.send("Animation.enable")
    session.send("Animation.setPlaybackRate", {"playbackRate": SLOWED})
    frames: list[Image.Image] = []
    for number in range(FRAMES):
        if number == ARRIVES_AT:
            event = {"student_id": "ada", "wallet_address": "9xQeWvG816bUx9EPjHmaT23"}
            page.evaluate(
                """(data) => void fetch("/api/demo/events", { method: "POST", body: JSON.stringify(
                     { type: "security.wallet_linked", tenant: "uni-berlin", data }),
                     headers: { "content-type": "application/json" } })""",
                event,
            )
        frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    context.close()
    palette = frames[-1].quantize(COLOURS, dither=Image.Dither.NONE)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [FRAME_MS] * (FRAMES - 1) + [LAST_MS]
    whole = {"save_all": True, "append_images": small[1:], "duration": durations, "loop": 0, "optimize": True}
    small[0].save(IMAGES / "arrival.gif", **whole)


def main(server: str) -> None:
    """Write every picture of `PICTURES` and the animated one."""
    chromium = os.environ.get("CARILLON_CHROMIUM") or shutil.which("chromium")
    IMAGES.mkdir(exist_ok=True)
    _fill(server)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for name, (address, scheme, size, prepare) in PICTURES.items():
            with _page(browser, server + address, scheme, size) as page:
                prepare(page)
                page.screenshot(path=IMAGES / f"{name}.png")
        _arrival(browser, server)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000")
