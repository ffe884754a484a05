"""By which address a request is counted, whoever claims what."""

from __future__ import annotations

import logging

import pytest

from api.access_log import LOGGER, keep_queries_out
from api.address import UNKNOWN, address_of
from shared.settings import settings


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "address"),
    [
        ("", ("203.0.113.9", 4711), [], "203.0.113.9"),
        ("", ("203.0.113.9", 4711), ["192.0.2.1"], "203.0.113.9"),
        ("10.0.0.0/8", ("203.0.113.9", 4711), ["192.0.2.1"], "203.0.113.9"),
        ("10.0.0.0/8", ("10.1.2.3", 4711), ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.0/8", ("10.1.2.3", 4711), [], "10.1.2.3"),
        ("10.0.0.0/8", ("10.1.2.3", 4711), ["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.0/8", ("10.1.2.3", 4711), ["198.51.100.7", "192.0.2.1"], "192.0.2.1"),
        ("10.0.0.0/8", ("10.1.2.3", 4711), ["198.51.100.7, 192.0.2.1, 10.9.9.9"], "192.0.2.1"),
        ("10.0.0.0/8", ("10.1.2.3", 4711), ["10.9.9.9"], "10.9.9.9"),
        ("10.0.0.0/8", ("10.1.2.3", 4711), ["nonsense"], "10.1.2.3"),
        ("10.0.0.0/8", ("10.1.2.3", 4711), ["192.0.2.1, nonsense"], "10.1.2.3"),
        ("10.0.0.0/8,::1/128", ("::1", 4711), ["[2001:db8:1:2:3::4]"], "2001:db8:1:2::/64"),
        ("", ("2001:db8:1:2:aaaa::1", 4711), [], "2001:db8:1:2::/64"),
        ("", ("::ffff:192.0.2.1", 4711), [], "192.0.2.1"),
        # uvicorn believed a header: what it put in the peer's place is not believed here.
        ("", ("192.0.2.1", 0), ["192.0.2.1"], "127.0.0.1"),
        ("127.0.0.1/32", ("192.0.2.1", 0), ["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        ("", None, ["192.0.2.1"], UNKNOWN),
        ("", ("/run/socket", 0), [], "127.0.0.1"),
    ],
)
def test_an_address_is_the_peers_or_what_its_own_proxies_say(
    monkeypatch: pytest.MonkeyPatch,
    proxies: str,
    peer: tuple[str, int] | None,
    forwarded: list[str],
    address: str,
) -> None:
    monkeypatch.setenv("CARILLON_TRUSTED_PROXIES", proxies)
    settings.cache_clear()
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert address_of({"type": "http", "client": peer, "headers": headers}) == address


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/api/notifications/stream?ticket=abc&snapshot=3", "/api/notifications/stream?…"),
        ("/api/notifications/streem?%74icket=abc", "/api/notifications/streem?…"),
        ("/?tokenn=abc", "/?…"),
        ("/readyz", "/readyz"),
    ],
)
def test_the_access_log_has_no_query(caplog: pytest.LogCaptureFixture, path: str, logged: str) -> None:
    keep_queries_out()
    keep_queries_out()
    logger = logging.getLogger(LOGGER)
    with caplog.at_level(logging.INFO, LOGGER):
        logger.info('%s - "%s %s HTTP/%s" %d', "192.0.2.1:1", "GET", path, "1.1", 200)
    assert caplog.messages == [f'192.0.2.1:1 - "GET {logged} HTTP/1.1" 200']
    assert len(logger.filters) == 1
