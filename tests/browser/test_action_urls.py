"""The action URLs that we accept mean to Chromium what they mean to us: thousands of them, in one call of `new URL`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from urllib.parse import urlsplit

from playwright.sync_api import Browser

from shared.action_url import normalise
from shared.errors import InvalidInput

SEED = 20_260_301
MANY = 6_000
BASE = "https://app.example.com"
HOSTS = ("app.example.com", "example.org", "example.org:8443", "127.0.0.1", "[::1]")
#: Pieces in which URL parsers are known to differ.
SCHEMES = ("", "https://", "http://", "HTTPS://", "https:/", "https:", "//", "///", "/", "/\\", "javascript:", "data:",
           "ftp://", " https://", "https:\\\\", "\thttps://", "blob:https://", "/%2f", "/./", "/..//")  # fmt: skip
AUTHORITIES = ("app.example.com", "example.org", "EXAMPLE.org", "example.org:443", "example.org:8443", "example.org.",
               "user@example.org", "example.org@evil.example", "evil.example", "127.0.0.1", "127.1", "0x7f.1",
               "2130706433", "[::1]", "[0:0::1]", "[::ffff:127.0.0.1]", "exa%6dple.org", "exämple.org",
               "xn--exmple-cua.org", "example.org:", "example.org:99999", "example。org", "app.example.com:0443",
               "app.example.com\\@evil.example", "app.example.com#@evil.example", "", ".", "a..b", "-a.example.org",
               "xn--a", "[::1", "app_x.example.com", "1.2.3", "0177.0.0.1")  # fmt: skip
PIECES = ("/", "a", "..", ".", "%2e", "%2E%2e", "//", "\\", "?", "#", "%", "%zz", "%00", "é", "\u202e", " ", "<", '"',
          "{", "}", "|", "^", "`", "'", "&", "=", ";", "@", ":", "course-1", "\t", "\x7f", "😀", "~", "[", "]",
          "\u0085", "\u3000", "ﬀ")  # fmt: skip


def corpus() -> Iterator[str]:
    """Yield URLs of hostile pieces, the same in every run."""
    chance = random.Random(SEED)
    for _ in range(MANY):
        path = "".join(chance.choices(PIECES, k=chance.randrange(7)))
        kind = chance.random()
        if kind < 0.4:
            yield "/" + path
        elif kind < 0.8:
            yield chance.choice(("https://", "http://")) + chance.choice(AUTHORITIES) + "/" + path
        else:
            yield chance.choice(SCHEMES) + chance.choice(("", chance.choice(AUTHORITIES))) + path


def accepted(url: str) -> str | None:
    try:
        return normalise(url, HOSTS)
    except InvalidInput:
        return None


READ = """([base, urls]) => urls.map(url => {
    try {
        const read = new URL(url, base + '/a/b?c#d');
        return [read.href, read.protocol, read.host, read.username + read.password];
    } catch { return null; }
})"""


def test_what_is_accepted_leads_a_browser_where_we_say(chromium: Browser) -> None:
    told = {url: normal for url in corpus() if (normal := accepted(url)) is not None}
    page = chromium.new_page()
    as_sent, as_stored = (page.evaluate(READ, [BASE, list(urls)]) for urls in (told.keys(), told.values()))
    page.close()
    assert len(told) > MANY / 5
    for (url, normal), sent, stored in zip(told.items(), as_sent, as_stored, strict=True):
        assert sent is not None, url
        assert sent == stored, (url, normal)
        href, protocol, host, credentials = stored
        expected = BASE + normal if normal.startswith("/") else normal
        assert href == expected, (url, normal)
        assert (protocol in ("https:", "http:"), credentials) == (True, ""), url
        assert (
            host == urlsplit(BASE).netloc
            if normal.startswith("/")
            else host.removesuffix(".") in HOSTS or (host.rpartition(":")[0] in HOSTS)
        ), (url, host)


def test_what_a_browser_would_take_elsewhere_is_refused(chromium: Browser) -> None:
    urls = list(corpus())
    page = chromium.new_page()
    read = page.evaluate(READ, [BASE, urls])
    page.close()
    hosts = {host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host for host in HOSTS}
    away = [
        url
        for url, found in zip(urls, read, strict=True)
        if found is not None
        and (
            found[1] not in ("https:", "http:")
            or urlsplit(found[0]).hostname not in {host.strip("[]") for host in hosts}
        )
    ]
    assert len(away) > MANY / 10
    assert [url for url in away if accepted(url) is not None] == []
