"""The snippets of docs/web-client.md and the example application, each in a host page; a policy as strict as can be."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.template import Context, Engine
from jinja2 import Environment
from playwright.sync_api import BrowserContext, Page, expect

from api.assets import VERSION
from shared.settings import PROJECT_ROOT
from tests.browser.clients import SNAPSHOT
from tests.browser.host import STRICT, Host
from tests.browser.people import bell, high, inbox, post, shows_unread, token
from tests.eventually import eventually
from tests.npm import WEB, install, run
from tests.servers import ApiServer

NewContext = Callable[..., BrowserContext]
Render = Callable[[str, dict[str, str]], str]
DOCUMENT = PROJECT_ROOT / "docs" / "web-client.md"
EXAMPLE = PROJECT_ROOT / "examples" / "react"
MODULES = f"/static/carillon/v{VERSION}"
PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Host</title>{}</html>'


def snippet(name: str) -> str:
    """Return a snippet of the document, as a reader copies it."""
    found = re.search(rf"<!-- snippet: {name} -->\n```\w+\n(.*?)\n```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host application; whoever asks it is Ada."""
    made = Host({}, lambda: "")
    yield made
    made.close()


@pytest.fixture(scope="module")
def stack_env(stack_env: dict[str, str], host: Host) -> dict[str, str]:
    return {**stack_env, "CARILLON_ALLOWED_ORIGINS": host.url}


@pytest.fixture
def embedded(host: Host, api_server: ApiServer, new_context: NewContext) -> Callable[..., Page]:
    """Open a page of the host application, with a policy."""

    def opened(pages: dict[str, str], policy: str | None = None, path: str = "/") -> Page:
        host.pages, host.policy, host.token = pages, policy, lambda: token(api_server.url)
        page = new_context().new_page()
        page.goto(host.url + path)
        return page

    return opened


@pytest.fixture
def own_page(api_server: ApiServer, new_context: NewContext) -> Callable[[str], Page]:
    """Open a page on Carillon's own origin, where Ada is signed in by cookie and by `/carillon-token`."""

    def opened(html: str, script: str = "") -> Page:
        context = new_context()
        headers = {"authorization": f"Bearer {token(api_server.url)}", "sec-fetch-site": "same-origin"}
        assert context.request.post("/api/session", headers=headers).status == 201
        page = context.new_page()
        page.route("**/host-page", lambda route: route.fulfill(body=PAGE.format(html), content_type="text/html"))
        page.route("**/host.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
        page.route("**/carillon-token", lambda route: route.fulfill(json={"token": token(api_server.url)}))
        page.goto("/host-page")
        return page

    return opened


def follows(page: Page, server: ApiServer) -> None:
    """The bell moves when something happens."""
    shows_unread(page, 0)
    post(server.url)
    shows_unread(page, 1)


def test_the_document_names_the_version_that_is_served() -> None:
    assert set(re.findall(r"/static/carillon/v([\d.]+)/", DOCUMENT.read_text())) == {VERSION}


def test_the_plain_snippet_works_with_the_session_cookie(
    own_page: Callable[[str], Page], api_server: ApiServer
) -> None:
    page = own_page(snippet("plain"))
    follows(page, api_server)
    high(api_server.url)
    expect(page.locator("carillon-toasts .toast")).to_contain_text("Wallet Linked")
    bell(page).click()
    expect(page.get_by_role("link", name="View all")).to_have_attribute("href", "/notifications")


def by_jinja(source: str, values: dict[str, str]) -> str:
    """Return the template as Jinja renders it."""
    return Environment(autoescape=True).from_string(source).render(values)


def by_django(source: str, values: dict[str, str]) -> str:
    """Return the template as Django renders it."""
    rendered: str = Engine(autoescape=True).from_string(source).render(Context(values))
    return rendered


@pytest.mark.parametrize("render", [by_jinja, by_django])
def test_the_template_snippet_works_on_another_origin(
    embedded: Callable[..., Page], api_server: ApiServer, render: Render
) -> None:
    page = embedded({"/": _rendered(api_server, render)})
    follows(page, api_server)
    bell(page).click()
    page.locator("carillon-bell article").hover()
    page.locator("carillon-bell").get_by_role("button", name="Mark read").first.click()
    shows_unread(page, 0)
    eventually(lambda: inbox(api_server.url)["unreadCount"] == 0, within=30)


def test_whoever_signs_in_last_at_the_host_is_the_person_of_every_page(
    embedded: Callable[..., Page], host: Host, api_server: ApiServer
) -> None:
    first = embedded({"/": _rendered(api_server)})
    post(api_server.url)
    expect(bell(first)).to_have_accessible_name(re.compile(r"[1-9]\d* unread"), timeout=30_000)
    host.token = lambda: token(api_server.url, recipient="mira")
    second = first.context.new_page()
    second.goto(host.url)
    eventually(lambda: second.evaluate(f"{SNAPSHOT}.status") == "live", within=30)
    eventually(lambda: first.evaluate(f"{SNAPSHOT}.status") == "closed", within=30)
    shows_unread(first, 0)
    assert first.evaluate(f"{SNAPSHOT}.items.length") == 0
    first.evaluate("document.querySelector('carillon-bell').client.retryNow()")
    eventually(lambda: first.evaluate(f"{SNAPSHOT}.status") == "live", within=30)
    shows_unread(first, 0)
    assert second.evaluate(f"{SNAPSHOT}.status") == "live"


def _rendered(server: ApiServer, render: Render = by_jinja) -> str:
    """Return the page as the host's server makes it."""
    host_code: dict[str, Any] = {}
    exec(snippet("importmap"), host_code)
    values = {"carillon_url": server.url, "carillon_importmap": host_code["importmap"](server.url)}
    return PAGE.format(render(snippet("template"), values))


def test_a_module_that_was_changed_on_its_way_is_not_run(
    host: Host, new_context: NewContext, api_server: ApiServer
) -> None:
    host.pages, host.policy, host.token = {"/": _rendered(api_server)}, None, lambda: token(api_server.url)
    page = new_context().new_page()
    changed = "export const createNotificationClient = () => { window.broken = true; }; export class Problem {}"
    headers = {"access-control-allow-origin": "*"}
    page.route(
        "**/core/client.js",
        lambda route: route.fulfill(body=changed, content_type="text/javascript", headers=headers),
    )
    with page.expect_console_message(lambda message: "integrity" in message.text):
        page.goto(host.url)
    assert page.evaluate("[window.broken, customElements.get('carillon-bell')]") == [None, None]


def test_the_script_snippet_works(own_page: Callable[[str], Page], api_server: ApiServer) -> None:
    page = own_page(snippet("script"))
    shows_unread(page, 0)
    with page.expect_console_message(lambda message: message.text == "new: Certificate Minted on Blockchain"):
        post(api_server.url)
    shows_unread(page, 1)
    with page.expect_console_message(lambda message: message.text.startswith("open /student/certificates/")):
        page.locator("carillon-inbox article a").click()
    shows_unread(page, 0)
    assert page.url.endswith("/host-page")


def test_the_react_snippet_works(own_page: Callable[..., Page], api_server: ApiServer, tmp_path: Path) -> None:
    install()
    (tmp_path / "app.jsx").write_text(snippet("react"))
    (tmp_path / "main.jsx").write_text(
        'import { createElement } from "react"; import { createRoot } from "react-dom/client";'
        'import App from "./app.jsx";'
        'createRoot(document.getElementById("app")).render(createElement(App));'
    )
    modules = WEB / "node_modules"
    run("npx", "esbuild", str(tmp_path / "main.jsx"), "--bundle", "--format=esm", "--jsx=automatic",
        f"--alias:carillon-web/react={WEB / 'src/react/index.js'}", f"--alias:react={modules / 'react'}",
        f"--alias:react-dom={modules / 'react-dom'}", f"--outfile={tmp_path / 'host.js'}")  # fmt: skip
    script = (tmp_path / "host.js").read_text()
    page = own_page('<div id="app"></div><script type="module" src="/host.js"></script>', script)
    expect(page.get_by_role("button", name="0 unread, live")).to_be_disabled()
    follows(page, api_server)
    expect(page.locator("article").first).to_contain_text("Certificate Minted on Blockchain")
    page.get_by_role("button", name="1 unread, live").click()
    shows_unread(page, 0)


def test_the_example_application_works(embedded: Callable[..., Page], api_server: ApiServer, tmp_path: Path) -> None:
    install(EXAMPLE)
    os.environ["VITE_CARILLON_URL"] = api_server.url
    try:
        run("npx", "vite", "build", "--outDir", str(tmp_path), "--emptyOutDir", folder=EXAMPLE)
    finally:
        del os.environ["VITE_CARILLON_URL"]
    files = {f"/{path.relative_to(tmp_path).as_posix()}": path.read_text() for path in tmp_path.rglob("*.*")}
    page = embedded({**files, "/": files["/index.html"]})
    follows(page, api_server)
    expect(page.get_by_role("feed", name="What happened").locator("article[data-unread]")).to_have_count(1)
    page.get_by_role("button", name="Read everything").click()
    shows_unread(page, 0)
    page.get_by_role("button", name="Delete what is read").click()
    expect(page.get_by_role("feed").locator("article")).to_have_count(0)
    eventually(lambda: inbox(api_server.url)["nodes"] == [], within=30)


#: What `npm run dev` starts, on a free port.
_DEVELOPMENT_SERVER = """
    const server = await (await import("vite")).createServer({ server: { port: 0 }, logLevel: "error" });
    await server.listen();
    const { status, headers } = await fetch(`${server.resolvedUrls.local[0]}carillon-token`);
    console.log(status, headers.get("content-type"));
    await server.close();
"""


def test_the_example_application_signs_somebody_in_where_it_is_developed(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(EXAMPLE)
    monkeypatch.setenv("VITE_CARILLON_URL", api_server.url)
    told = run("node", "--input-type=module", "--eval", _DEVELOPMENT_SERVER, folder=EXAMPLE)
    assert told.split() == ["200", "application/json"]


def test_the_minified_modules_do_what_the_source_does(
    embedded: Callable[..., Page], api_server: ApiServer, tmp_path: Path
) -> None:
    install()
    run(
        "node", "--input-type=module", "--eval", f'await (await import("./build.js")).dist({json.dumps(str(tmp_path))})'
    )
    files = {f"/{path.name}": path.read_text() for path in tmp_path.glob("*.js")}
    attributes = f'base-url="{api_server.url}" token-url="/carillon-token" lang="de"'
    body = (
        f'<script type="module" src="/elements.js"></script><carillon-bell {attributes} href="/all"></carillon-bell>'
        f"<carillon-inbox {attributes}></carillon-inbox>"
    )
    page = embedded({**files, "/": PAGE.format(body)})
    expect(bell(page)).to_have_attribute("aria-label", "Benachrichtigungen, 0 ungelesen")
    post(api_server.url)
    expect(page.locator("carillon-inbox article")).to_have_count(1)
    bell(page).click()
    expect(page.locator("carillon-bell article .face")).to_have_css("border-radius", "50%")


def test_the_strictest_policy_and_trusted_types_hold(
    embedded: Callable[..., Page], api_server: ApiServer, host: Host
) -> None:
    """The conftest's contexts fail the test for any violation that the console tells; this page also counts them."""
    entry = f"{api_server.url}{MODULES}/elements/index.js"
    hashes = httpx.get(f"{api_server.url}{MODULES}/integrity.json").json()["files"]
    watch = (
        "window.violations = []; addEventListener('securitypolicyviolation',"
        " (event) => violations.push(event.violatedDirective));"
    )
    attributes = f'base-url="{api_server.url}" token-url="/carillon-token"'
    body = (
        f'<script src="/watch.js"></script><script type="module" crossorigin integrity="{hashes["elements/index.js"]}"'
        f' src="{entry}"></script><carillon-bell {attributes} href="/all"></carillon-bell>'
        f"<carillon-status {attributes}></carillon-status><carillon-inbox {attributes}></carillon-inbox>"
        f'<carillon-toasts {attributes} lang="ar"></carillon-toasts>'
    )
    page = embedded({"/": PAGE.format(body), "/watch.js": watch}, STRICT.format(origin=api_server.url))
    follows(page, api_server)
    high(api_server.url)
    expect(page.locator("carillon-toasts .toast")).to_be_visible()
    bell(page).click()
    expect(page.locator("carillon-bell article")).to_have_count(2)
    expect(page.locator("carillon-inbox article")).to_have_count(2)
    assert json.loads(page.evaluate("JSON.stringify(violations)")) == []
