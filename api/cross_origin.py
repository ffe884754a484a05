"""Pages of other origins that may read answers (CORS): those that the settings name, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from api.problems import problem_response
from shared.errors import Forbidden

METHODS = ("GET", "POST", "PATCH", "DELETE")
#: What the web client sends beside what every page may.
HEADERS = ("authorization", "content-type", "last-event-id")
#: What it reads beside what every page may.
EXPOSED = ("retry-after", "x-request-id")
#: A browser asks again for permission after this long; more is cut off by Chromium (2 h) and others.
PERMISSION_S = 7200


class CrossOrigin(CORSMiddleware):
    """Starlette's, which is pure ASGI; a preflight that is refused is a problem, as every other error is."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        refused = problem_response(Forbidden("This origin, method or header is not allowed."))
        refused.headers["vary"] = "Origin"
        return refused


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of `origins` call and read with their credentials. Without any, no answer tells of other origins."""
    if not origins:
        return
    app.add_middleware(
        CrossOrigin,
        allow_origins=list(origins),
        allow_credentials=True,
        allow_methods=METHODS,
        allow_headers=HEADERS,
        expose_headers=EXPOSED,
        max_age=PERMISSION_S,
    )
