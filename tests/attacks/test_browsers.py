"""Tickets, cookies, forged requests and other origins' pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks.harness import APP, COUNT, EVIL, JSON, PAGE, SESSION, STREAM, TICKETS, Case, Target, ask

NO = (401, "unauthenticated")
FORGED = (403, "forbidden")
READ_ALL = b'{"read":true}'


def spent(target: Target) -> str:
    """Return a stream's path with a ticket that was used before."""
    path = f"{STREAM}?ticket={target.ticket()}"
    assert ask("GET", path).send(target).status == 200
    return path


TICKET_CASES = [
    Case("a ticket that was used", ask("GET", spent), *NO),
    Case("a ticket that nobody made", ask("GET", f"{STREAM}?ticket={'A' * 43}"), *NO),
    Case("an empty ticket", ask("GET", f"{STREAM}?ticket="), *NO),
    Case("a ticket of 5,000 characters", ask("GET", f"{STREAM}?ticket={'A' * 5000}"), *NO),
    Case("a ticket that is a pattern", ask("GET", f"{STREAM}?ticket=*"), *NO),
    Case("a ticket with a NUL", ask("GET", f"{STREAM}?ticket=%00"), *NO),
    Case("a ticket that is no UTF-8", ask("GET", f"{STREAM}?ticket=%ff%fe"), *NO),
    Case("a ticket for a page", ask("GET", lambda t: f"{PAGE}?ticket={t.ticket()}"), *NO),
    Case("a ticket as a token", ask("GET", STREAM, authorization=lambda t: f"Bearer {t.ticket()}"), *NO),
    Case("a ticket beside a token that is wrong",
         ask("GET", lambda t: f"{STREAM}?ticket={t.ticket()}", authorization="Bearer x"), *NO),
    Case("a ticket made by a page of another origin",
         ask("POST", TICKETS, cookie=Target.cookie, sec_fetch_site="cross-site", origin=EVIL), *FORGED),
]  # fmt: skip


def forged(name: str, method: str, path: str, body: bytes = b"", **headers: Any) -> Case:
    return Case(name, ask(method, path, body, cookie=Target.cookie, **headers), *FORGED)


COOKIE_CASES = [
    Case("a cookie that nobody made", ask("GET", PAGE, cookie="carillon=" + "A" * 43), *NO),
    Case("an empty cookie", ask("GET", PAGE, cookie="carillon="), *NO),
    Case("a cookie that was planted beside the right one",
         ask("GET", PAGE, cookie=lambda t: f"carillon=planted; {t.cookie()}"), *NO),
    Case("a cookie with a NUL", ask("GET", PAGE, cookie="carillon=%00"), *NO),
    Case("a cookie that is a token", ask("GET", PAGE, cookie=lambda t: f"carillon={t.token()}"), *NO),
    Case("a cookie under production's name", ask("GET", PAGE, cookie=lambda t: f"__Host-{t.cookie()}"), *NO),
    Case("a cookie in the place of a token", ask("GET", PAGE, authorization=lambda t: f"Bearer {t.cookie()}"), *NO),
    Case("a session out of a session", ask("POST", SESSION, cookie=Target.cookie, sec_fetch_site="same-origin"), *NO),
    Case("a logout without a cookie", ask("DELETE", SESSION), *NO),
    forged("marking all as read without a word of the browser", "PATCH", PAGE, READ_ALL, content_type=JSON),
    forged("marking all as read from another site", "PATCH", PAGE, READ_ALL, content_type=JSON,
           sec_fetch_site="cross-site", origin=EVIL),
    forged("marking all as read from a neighbour of the same site", "PATCH", PAGE, READ_ALL, content_type=JSON,
           sec_fetch_site="same-site", origin="https://blog.app.example"),
    forged("deleting all that is read from an address bar", "DELETE", f"{PAGE}?read=true", sec_fetch_site="none"),
    forged("an origin that only looks allowed", "POST", f"{PAGE}/read-all", origin=f"{APP}.evil.example"),
    forged("an allowed host on another port", "POST", f"{PAGE}/read-all", origin=f"{APP}:8443"),
    forged("an allowed host over plain http", "POST", f"{PAGE}/read-all", origin="http://app.example"),
    forged("the null origin of a sandboxed frame", "POST", f"{PAGE}/read-all", origin="null"),
    forged("a referrer instead of an origin", "POST", f"{PAGE}/read-all", referer=f"{APP}/inbox"),
    forged("another site's logout", "DELETE", SESSION, sec_fetch_site="cross-site", origin=EVIL),
    forged("another site's stream", "GET", STREAM, sec_fetch_site="cross-site", origin=EVIL),
    forged("another site's stream by an old browser", "GET", STREAM, origin=EVIL),
    forged("a script tag on another site", "GET", PAGE, sec_fetch_site="cross-site", sec_fetch_mode="no-cors"),
    forged("GraphQL from another site", "POST", "/graphql", b'{"query":"mutation{markAllNotificationsAsRead}"}',
           content_type=JSON, sec_fetch_site="cross-site", origin=EVIL),
    *(Case(f"a form's body ({kind}) from the own page",
           ask("PATCH", PAGE, READ_ALL, cookie=Target.cookie, content_type=kind, sec_fetch_site="same-origin"),
           415, "unsupported-content-type")
      for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")),
    Case("a method in a header", ask("GET", COUNT, cookie=Target.cookie, x_http_method_override="DELETE"), 200),
]  # fmt: skip

ALLOWED: dict[str, str | None] = {
    "access-control-allow-origin": APP, "access-control-allow-credentials": "true",
}  # fmt: skip
NOT_ALLOWED: dict[str, str | None] = {"access-control-allow-origin": None}


def preflight(origin: str, method: str = "PATCH", headers: str = "content-type") -> Any:
    return ask("OPTIONS", PAGE, origin=origin, access_control_request_method=method,
               access_control_request_headers=headers)  # fmt: skip


CORS_CASES = [
    Case("an allowed page may ask", preflight(APP), 200, None, has=ALLOWED),
    Case("another page may not", preflight(EVIL), *FORGED, has=NOT_ALLOWED),
    Case("the null origin may not", preflight("null"), *FORGED, has=NOT_ALLOWED),
    Case("every origin at once may not", preflight("*"), *FORGED, has=NOT_ALLOWED),
    Case("an allowed page may not use a method of nobody's", preflight(APP, "TRACE"), *FORGED),
    Case("an allowed page may not send a header of nobody's", preflight(APP, headers="x-evil"), *FORGED),
    Case("an allowed page reads with its cookie",
         ask("GET", COUNT, cookie=Target.cookie, origin=APP, sec_fetch_site="cross-site"), 200, None, has=ALLOWED),
    Case("an allowed page reads its refusals", ask("GET", COUNT, origin=APP), *NO, has=ALLOWED),
    Case("an allowed page opens the stream",
         ask("GET", STREAM, cookie=Target.cookie, origin=APP, sec_fetch_site="cross-site"), 200, None, has=ALLOWED),
    Case("another page reads nothing with a token either",
         ask("GET", COUNT, authorization=lambda t: t.bearer(), origin=EVIL), 200, None, has=NOT_ALLOWED),
    Case("an origin that is a header's end", preflight(f"{APP}%0d%0aset-cookie: a=b"), *FORGED, has=NOT_ALLOWED),
]  # fmt: skip


@pytest.mark.parametrize("case", TICKET_CASES, ids=str)
def test_tickets(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize("case", COOKIE_CASES, ids=str)
def test_cookies(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize("case", CORS_CASES, ids=str)
def test_other_origins(target: Target, case: Case) -> None:
    target.judge(case)
