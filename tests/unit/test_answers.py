"""Every answer of the API: its headers, and what becomes of a failure that nobody foresaw."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from api import docs
from api.answers import Answers
from api.problems import install_problems

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
QUOTED = 'invalid input: {"student_id": "ann"}'


def _app() -> FastAPI:
    app = FastAPI(docs_url=None)
    install_problems(app)
    app.add_middleware(Answers)
    app.include_router(docs.router)

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError(QUOTED)

    @app.get("/breaks")
    async def breaks() -> StreamingResponse:
        async def pieces() -> object:
            yield b"begun"
            raise RuntimeError(QUOTED)

        return StreamingResponse(pieces())  # type: ignore[arg-type]

    return app


@pytest.fixture
async def api() -> httpx.AsyncClient:
    transport = httpx.ASGITransport(_app())
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_an_unforeseen_failure_is_a_problem_with_every_header_and_its_message_is_nowhere(
    api: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await api.get("/fails")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert HEADERS.items() <= dict(answer.headers).items()
    logged = "".join(capsys.readouterr())
    assert "api.unexpected" in logged
    assert "RuntimeError" in logged
    assert "ann" not in answer.text + logged


async def test_an_answer_that_breaks_off_is_cut_and_the_message_does_not_reach_the_server(
    api: httpx.AsyncClient,
) -> None:
    with pytest.raises(ConnectionAbortedError) as caught:
        await api.get("/breaks")
    assert str(caught.value) == ""
    assert caught.value.__suppress_context__


async def test_the_page_of_the_description_may_run_its_script_and_nothing_beside_it_may(
    api: httpx.AsyncClient,
) -> None:
    page, other = await api.get("/docs"), await api.get("/docsx")
    assert (page.status_code, other.status_code) == (200, 404)
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "://" not in page.text
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert (await api.get(name)).status_code == 200, name
    assert (await api.get("/docs/redoc.standalone.js")).status_code == 404
    assert HEADERS.items() <= dict(other.headers).items()
