"""Measure from `POST` of an event to the changed badge in Chromium: `python bench/badge.py http://localhost:8000`.

Needs a running Carillon in development (`make up`) and Chromium. One event after the other: the latency of
an idle system. A MutationObserver on the badge takes the time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys

from playwright.sync_api import expect, sync_playwright

EVENTS = 200
WARM_UP = 20
MEASURE = """async (many) => {
  const badge = document.querySelector("carillon-bell").shadowRoot.querySelector(".bell");
  const data = { student_id: "mira", certificate_id: "c", badge_title: "Speed" };
  const body = JSON.stringify({ type: "certificate.minted", tenant: "uni-berlin", data });
  const headers = { "content-type": "application/json" };
  const taken = [];
  for (let each = 0; each < many; each += 1) {
    let seen;
    const changed = new Promise((resolve) => { seen = resolve; });
    const observer = new MutationObserver(() => seen(performance.now()));
    observer.observe(badge, { attributes: true, attributeFilter: ["aria-label"] });
    const began = performance.now();
    await fetch("/api/demo/events", { method: "POST", headers, body });
    taken.push(await changed - began);
    observer.disconnect();
  }
  return taken;
}"""


def main(server: str) -> None:
    """Print the median, the 99th percentile and the slowest of `EVENTS`."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("CARILLON_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"{server}/notifications#uni-berlin/mira")
        expect(page.locator("carillon-status .status")).to_have_class("status live", timeout=60_000)
        page.evaluate(MEASURE, WARM_UP)
        taken = sorted(page.evaluate(MEASURE, EVENTS))
        browser.close()
    hundredths = statistics.quantiles(taken, n=100)
    print(f"{EVENTS} events: p50 {hundredths[49]:.1f} ms, p99 {hundredths[98]:.1f} ms, max {taken[-1]:.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000")
