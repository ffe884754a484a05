"""Measure from `POST` of an event to the changed badge in Chromium: `python bench/badge.py http://localhost:8000`.

Needs a running Carillon in development (`make up`, in this folder) and Chromium. One event after the other, by
`POST /api/events` with a producer's key that is made for it: the latency of an idle system. A MutationObserver on the
badge takes the time, in the page that posts.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

EVENTS = 200
WARM_UP = 20
MEASURE = """async ([many, key]) => {
  const badge = document.querySelector("carillon-bell").shadowRoot.querySelector(".bell");
  const data = { student_id: "mira", certificate_id: "c", badge_title: "Speed" };
  const event = { specversion: "1.0", source: "/bench/badge", type: "certificate.minted", tenant: "uni-berlin", data };
  const headers = { "content-type": "application/cloudevents+json", authorization: `Bearer ${key}` };
  const taken = [];
  for (let each = 0; each < many; each += 1) {
    let seen;
    const changed = new Promise((resolve) => { seen = resolve; });
    const observer = new MutationObserver(() => seen(performance.now()));
    observer.observe(badge, { attributes: true, attributeFilter: ["aria-label"] });
    const body = JSON.stringify({ ...event, id: crypto.randomUUID() });
    const began = performance.now();
    const answer = await fetch("/api/events", { method: "POST", headers, body });
    if (answer.status !== 202) throw new Error(`The event was answered ${answer.status}.`);
    taken.push(await changed - began);
    observer.disconnect();
  }
  return taken;
}"""


def _key() -> str:
    """Return a new producer key; `carillon` finds the running `make up` by itself."""
    command = [str(Path(sys.executable).with_name("carillon")), "key", "create", "--tenant=uni-berlin"]
    made = subprocess.run([*command, "--scope=events:write"], capture_output=True, text=True, check=True)
    return made.stdout.split()[-1]


def main(server: str) -> None:
    """Print the median, the 99th percentile and the slowest of `EVENTS`, and the machine's load before."""
    key, load = _key(), os.getloadavg()[0]
    with sync_playwright() as playwright:
        chromium = os.environ.get("CARILLON_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"{server}/notifications#uni-berlin/mira")
        expect(page.locator("carillon-status .status")).to_have_class("status live", timeout=60_000)
        page.evaluate(MEASURE, [WARM_UP, key])
        taken = sorted(page.evaluate(MEASURE, [EVENTS, key]))
        browser.close()
    hundredths = statistics.quantiles(taken, n=100)
    told = f"p50 {hundredths[49]:.1f} ms, p99 {hundredths[98]:.1f} ms, max {taken[-1]:.1f} ms"
    print(f"{EVENTS} events: {told}; load before {load:.1f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000")
