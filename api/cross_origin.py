"""Pages of other origins that may read answers (CORS): those that the settings name, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

METHODS = ("GET", "POST", "PATCH", "DELETE")
#: What the web client sends beside what every page may.
HEADERS = ("authorization", "content-type", "last-event-id")
#: What it reads beside what every page may.
EXPOSED = ("retry-after",)
#: A browser asks again for permission after this long; more is cut off by Chromium (2 h) and others.
PERMISSION_S = 7200


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of `origins` call and read with their credentials. Without any, no answer tells of other origins."""
    if not origins:
        return
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_credentials=True,
        allow_methods=METHODS,
        allow_headers=HEADERS,
        expose_headers=EXPOSED,
        max_age=PERMISSION_S,
    )
