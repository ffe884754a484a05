"""Take the pictures of the documentation from a running Carillon: `python docs/screenshots.py http://localhost:8000`.

Needs the development environment and Chromium (`CARILLON_CHROMIUM` names another one).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
#: Of each kind one, the last ones on top.
EVENTS = ("certificate.issued", "achievement.awarded", "enrollment.added", "zk_proof.verified", "certificate.minted")
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


def _be_ada(page: Page, server: str) -> None:
    page.goto(f"{server}/#uni-berlin/ada")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")


def _fill(page: Page) -> None:
    for event in EVENTS:
        page.get_by_label("Event type").select_option(event)
        page.get_by_role("button", name="Send event").click()
        expect(page.locator("#answer")).to_contain_text("Done")


def main(server: str) -> None:
    """Write page-light.png, page-dark.png and page-phone.png."""
    chromium = os.environ.get("CARILLON_CHROMIUM") or shutil.which("chromium")
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for name, scheme, size in (("light", "light", DESKTOP), ("dark", "dark", DESKTOP), ("phone", "light", PHONE)):
            page = browser.new_page(color_scheme=scheme, viewport=size, reduced_motion="reduce")  # type: ignore[arg-type]
            _be_ada(page, server)
            if name == "light":
                _fill(page)
            page.wait_for_function("document.querySelectorAll('#notifications h3').length >= 5")
            page.screenshot(path=IMAGES / f"page-{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000")
