"""Take the pictures of the operators' page and of Flower from a running `make up`, under a load made here.

`python docs/screenshots_ops.py [http://localhost:8000]`, after `make up`; `make screenshots` runs it, too. It makes the
tenant `load` with 60,000 people, who stay.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import text

from shared import db, directory
from shared.settings import data_dir, settings
from shared.tokens import make_token

IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TENANT = "load"
PEOPLE = 60_000
STREAMS = 39
#: Of the people, so many get events of their own.
ADDRESSED = 200
#: Longer than from one heartbeat to the next.
SILENCE_S = 60.0
#: Events a second, and one to everybody after so many.
EVENTS_PER_S = 40
ANNOUNCED_EVERY = 400
#: Until the lines of the page show something.
LOADED_MS = 45_000
PATIENCE_MS = 60_000
PICTURES = {
    "ops-light": ("light", (1440, 1000), 1),
    "ops-dark": ("dark", (1440, 1000), 1),
    "ops-phone": ("light", (390, 844), 2),
}
#: Refused when they are fanned out: they lack most of their fields.
BAD = ("payment.received", "grade.posted", "course.updated")
_INBOXES = "INSERT INTO inboxes (tenant, recipient) SELECT :t, 'p' || n FROM generate_series(1, :n) n"
_PEOPLE = "INSERT INTO recipients (key, tenant, id) SELECT key, tenant, recipient FROM inboxes WHERE tenant = :t"
_ROLES = "INSERT INTO recipient_roles (tenant, role, key) SELECT :t, 'student', key FROM recipients WHERE tenant = :t"


def _seed() -> None:
    with db.transaction(db.EVERY_TENANT) as connection:
        directory.ensure_tenant(connection, TENANT)
        for statement in (_INBOXES, _PEOPLE, _ROLES):
            connection.execute(text(f"{statement} ON CONFLICT DO NOTHING"), {"t": TENANT, "n": PEOPLE})
        for type_ in BAD:
            # Always the same ones: a second run shows three failed events, too.
            event = {
                "specversion": "1.0",
                "id": f"{type_.partition('.')[0]}-4711",
                "source": "/billing",
                "type": type_,
                "tenant": TENANT,
                "data": {"student_id": "p1"},
            }
            connection.execute(text("SELECT carillon_publish(CAST(:event AS jsonb))"), {"event": json.dumps(event)})


def _event(number: int) -> dict[str, object]:
    who = f"p{1 + number % ADDRESSED}"
    kinds: dict[str, dict[str, str]] = {
        "achievement.awarded": {"student_id": who, "achievement_id": "a-1", "title": "First in Class"},
        "grade.posted": {"student_id": who, "course_id": "c-1", "course_title": "Logic", "grade": "A"},
        "enrollment.added": {"student_id": who, "enrollment_id": "e-1", "course_name": "Sets"},
    }
    type_ = list(kinds)[number % len(kinds)]
    return {"type": type_, "tenant": TENANT, "data": kinds[type_]}


def _announcement() -> dict[str, object]:
    data = {"title": "Exams", "message": "The dates of the exams are out.", "audience": {"role": "student"}}
    return {"type": "system.announcement", "tenant": TENANT, "data": data}


def _listen(server: str, number: int, over: threading.Event) -> None:
    headers = {"authorization": f"Bearer {make_token(TENANT, f'p{number}', ['student'], 3600)}"}
    with httpx.stream("GET", f"{server}/api/notifications/stream", headers=headers, timeout=SILENCE_S) as answer:
        for _ in answer.iter_raw():
            if over.is_set():
                return


def _post(server: str, over: threading.Event) -> None:
    with httpx.Client(base_url=server, timeout=30) as client:
        number = 0
        while not over.wait(1 / EVENTS_PER_S):
            client.post("/api/demo/events", json=_announcement() if number % ANNOUNCED_EVERY == 0 else _event(number))
            number += 1


@contextmanager
def _load(server: str) -> Iterator[None]:
    """Keep people listening and events coming for the block."""
    over = threading.Event()
    jobs = [threading.Thread(target=_listen, args=(server, each, over), daemon=True) for each in range(1, STREAMS + 1)]
    jobs.append(threading.Thread(target=_post, args=(server, over), daemon=True))
    for job in jobs:
        job.start()
    try:
        yield
    finally:
        over.set()


def _operations(browser: Browser, server: str) -> None:
    pages: dict[str, Page] = {}
    for name, (scheme, (width, height), scale) in PICTURES.items():
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            reduced_motion="reduce",
        )
        pages[name] = context.new_page()
        pages[name].goto(f"{server}/ops")
    first = next(iter(pages.values()))
    first.wait_for_timeout(LOADED_MS)
    # A bar that has begun to move; the page's policy forbids Playwright's own way of waiting for that.
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < deadline and not first.evaluate("document.querySelector('progress')?.position > 0.1"):
        first.wait_for_timeout(200)
    for name, page in pages.items():
        page.screenshot(path=IMAGES / f"{name}.png")


def _flower(browser: Browser) -> None:
    password = json.loads((data_dir() / "secrets.json").read_text())["flower_password"]
    credentials = {"username": settings().flower_user, "password": password}
    context = browser.new_context(viewport={"width": 1440, "height": 900}, http_credentials=credentials)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{settings().flower_port}/tasks", timeout=PATIENCE_MS)
    page.get_by_text("SUCCESS").first.wait_for(timeout=PATIENCE_MS)
    page.screenshot(path=IMAGES / "flower.png")


def main(server: str) -> None:
    """Write the pictures of the operators' page and of Flower."""
    chromium = os.environ.get("CARILLON_CHROMIUM") or shutil.which("chromium")
    IMAGES.mkdir(exist_ok=True)
    _seed()
    with sync_playwright() as playwright, _load(server):
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        _operations(browser, server)
        _flower(browser)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000")
