"""Requests that a browser sends with a cookie: whether the page behind them may (security of cookies against forgery).

A token in a header proves that the page has it; a cookie proves nothing about the page, so that is asked of the browser
(https://www.w3.org/TR/fetch-metadata/). A browser that tells nothing of it must name an allowed origin.
"""

from __future__ import annotations

from starlette.datastructures import Headers

from shared.errors import Forbidden, UnsupportedContentType
from shared.settings import settings

SAFE = ("GET", "HEAD", "OPTIONS")
JSON = "application/json"


def require_own_page(method: str, headers: Headers) -> None:
    """Raise `Forbidden` unless the request comes from a page that may use the cookie; what changes something is JSON.

    What changes something must come from the server's own origin, or an allowed one. Reading (the stream too) is
    refused from pages of other origins that are not allowed; a browser's address bar and programs may read.
    """
    if headers.get("origin") in settings().allowed_origins:
        return
    site = headers.get("sec-fetch-site")
    if method in SAFE:
        if site not in (None, "same-origin", "none") or (site is None and "origin" in headers):
            raise Forbidden("A page of another origin may not use the session cookie.")
    elif site != "same-origin":
        raise Forbidden(
            "With the session cookie, only the server's own pages and allowed origins may change something."
        )


def require_json(method: str, headers: Headers) -> None:
    """Raise `UnsupportedContentType` where a request by cookie changes something and carries another body than JSON."""
    if method in SAFE:
        return
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if kind != JSON and (kind or has_body):
        raise UnsupportedContentType(f"Send the body as {JSON}.")


def cookie_of(headers: Headers, name: str) -> str | None:
    """Return the cookie of that name, None without one. One that is told twice, differently, is worth nothing: ''."""
    found = {
        value.strip().strip('"')
        for line in headers.getlist("cookie")
        for key, sep, value in (pair.partition("=") for pair in line.split(";"))
        if sep and key.strip() == name
    }
    if not found:
        return None
    return found.pop() if len(found) == 1 else ""
