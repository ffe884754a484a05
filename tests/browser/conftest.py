"""Chromium, driven by Playwright: a fixture of our own, as the loop of pytest-playwright clashes with asyncio's."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import redis
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.conftest import TEMPLATE
from tests.servers import ApiServer, Worker

#: The names under which systems install it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: As root in a container there is no sandbox; there is no graphics card, and nothing may be fetched beside the page.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
#: Two cores carry the servers, the browser and the tests.
PATIENCE_MS = 20_000
#: High enough for a form and its button: an inbox that is scrolled away holds back what is new.
TALL = {"width": 1280, "height": 1400}


def installed_chromium() -> str:
    """Return where Chromium is; fails with what to do where it is not."""
    named = os.environ.get("CARILLON_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("The browser's tests need Chromium: install it (Debian: apt-get install chromium), or name it in "
                    "CARILLON_CHROMIUM.")  # fmt: skip
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a module's tests. None of them may be async: Playwright's loop runs meanwhile."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed_chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def stack_env(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of one server and one worker for all of a module's tests: starting them costs seconds."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE DATABASE browser TEMPLATE {TEMPLATE}")
    with redis.Redis.from_url(shared_redis.url()) as client:
        client.flushall()
    yield {
        "CARILLON_ENVIRONMENT": "development",
        "CARILLON_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "CARILLON_DATABASE_URL": postgres.url("browser"),
        "CARILLON_REDIS_URL": shared_redis.url(0),
        "CARILLON_BROKER_URL": shared_redis.url(1),
        "CARILLON_JWT_SECRET": secrets.token_urlsafe(48),
        "CARILLON_SECRET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
        session.execute("DROP DATABASE browser WITH (FORCE)")


@pytest.fixture(scope="module")
def stack(stack_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The running server, with a worker behind it."""
    logs: Path = tmp_path_factory.mktemp("logs")
    server, worker = ApiServer(stack_env, logs / "api.log"), Worker(stack_env, logs / "worker.log")
    try:
        server.start()
        worker.start()
        # The first visit registers the demo people.
        assert httpx.get(f"{server.url}/api/demo/people", timeout=PATIENCE_MS / 1000).status_code == 200
        yield server
    finally:
        server.kill()
        worker.kill()


@pytest.fixture
def api_server(stack: ApiServer, stack_env: dict[str, str]) -> ApiServer:
    """The server, with every inbox empty. Their numbering goes on, as after a deletion."""
    with psycopg.connect(stack_env["CARILLON_DATABASE_URL"], autocommit=True) as session:
        session.execute("DELETE FROM notifications")
        session.execute("UPDATE inboxes SET seq = seq + 1, floor_seq = seq + 1, unread = 0, unseen = 0, total = 0")
    return stack


@pytest.fixture
def new_context(chromium: Browser, api_server: ApiServer) -> Iterator[Callable[..., BrowserContext]]:
    """Make browsers' profiles, one for each person; after the test every page must have been free of errors.

    An error of a script, or a violation of the page's policy, fails the test even if nothing else shows it.
    """
    made: list[BrowserContext] = []
    errors: list[str] = []

    def make(**options: object) -> BrowserContext:
        options = {"viewport": TALL, **options}
        context = chromium.new_context(base_url=api_server.url, **options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        context.on("console", lambda message: errors.append(message.text) if _is_violation(message.text) else None)
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()
    assert errors == []


def is_live(page: Page, within_ms: float = PATIENCE_MS) -> None:
    """Wait until the page follows the stream, its own or another page's of its browser."""
    expect(page.locator("carillon-status .status").first).to_have_class("status live", timeout=within_ms)


def _is_violation(text: str) -> bool:
    return "Content Security Policy" in text or "Trusted" in text or "Uncaught" in text


@pytest.fixture
def open_page(new_context: Callable[..., BrowserContext]) -> Callable[..., Page]:
    """Open a page as one of the demo people, live: `open_page("uni-berlin", "ada")`, `context=` for a second tab."""

    def opened(tenant: str, person: str, context: BrowserContext | None = None, path: str = "/events") -> Page:
        page = (context or new_context()).new_page()
        page.goto(f"{path}#{tenant}/{person}")
        is_live(page)
        return page

    return opened
