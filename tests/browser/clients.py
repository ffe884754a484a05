"""What the tests of the client's states read of the client in a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import BrowserContext, Page, Request

OpenPage = Callable[..., Page]
NewContext = Callable[..., BrowserContext]
FULL = "/notifications"
STREAM = re.compile(r"/api/notifications/stream\?")
#: What a page keeps of what its client was told.
RECORD = """() => {
  window.told = [];
  window.badges = [];
  const client = document.querySelector('carillon-bell').client;
  client.on('created', (item) => told.push(item.id));
  let before = client.getSnapshot().unreadCount;
  client.subscribe(() => {
    const { unreadCount } = client.getSnapshot();
    if (unreadCount !== before) badges.push([before = unreadCount, Date.now()]);
  });
}"""
SNAPSHOT = "document.querySelector('carillon-bell').client.getSnapshot()"


def asked_for_streams(context: BrowserContext) -> list[Request]:
    """Collect the requests for a stream that a browser makes from now on."""
    requests: list[Request] = []
    context.on("request", lambda request: requests.append(request) if STREAM.search(request.url) else None)
    return requests


def state(page: Page) -> dict[str, Any]:
    """Return the client's snapshot, less its items."""
    told: dict[str, Any] = page.evaluate(f"(({{ items, error, ...rest }}) => rest)({SNAPSHOT})")
    return told
