"""`/docs` in development: the OpenAPI description as a page, all of it served from here.

FastAPI's own page loads scripts from a CDN, and runs one that stands in the page.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from shared.errors import NotFound
from shared.settings import settings

MEDIA_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
#: Swagger UI draws its icons from data: URLs and sets styles on elements; it runs no text as a script.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Carillon: the API</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
"""
START = """"use strict";
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
"""

router = APIRouter(include_in_schema=False)


def _answer(text: str, media_type: str) -> Response:
    return Response(text, media_type=media_type, headers={"content-security-policy": POLICY})


@router.get("/docs")
async def page() -> Response:
    """The page. In production there is none."""
    if not settings().development:
        raise NotFound
    return _answer(PAGE, "text/html")


@router.get("/docs/{name}")
async def file(name: str) -> Response:
    """One of the page's files."""
    if not settings().development or (name != "start.js" and name not in MEDIA_TYPES):
        raise NotFound
    if name == "start.js":
        return _answer(START, "text/javascript")
    return FileResponse(str(files("fastapi_offline") / "static" / name), media_type=MEDIA_TYPES[name])
