"""Which pages of other origins may read answers."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from tests.servers import ApiServer

HOST = "https://app.example"
ASKED = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization,content-type"}


def test_an_allowed_page_may_call_and_read_problems_too(new_api_server: Callable[..., ApiServer]) -> None:
    server = new_api_server(CARILLON_ALLOWED_ORIGINS=HOST)
    allowed = httpx.options(f"{server.url}/api/notifications/1", headers={"origin": HOST, **ASKED})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == HOST
    assert "PATCH" in allowed.headers["access-control-allow-methods"]
    refused = httpx.get(f"{server.url}/api/notifications", headers={"origin": HOST})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, HOST)
    assert "retry-after" in refused.headers["access-control-expose-headers"].lower()
    stranger = httpx.options(f"{server.url}/api/notifications/1", headers={"origin": "https://evil.example", **ASKED})
    assert (stranger.status_code, stranger.headers["content-type"]) == (403, "application/problem+json")
    assert stranger.headers["x-content-type-options"] == allowed.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in stranger.headers


def test_without_the_setting_no_page_of_another_origin_may(api_server: ApiServer) -> None:
    answer = httpx.get(f"{api_server.url}/api/notifications", headers={"origin": HOST})
    assert "access-control-allow-origin" not in answer.headers
