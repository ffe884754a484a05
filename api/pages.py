"""The pages of the demonstration and their files, served as they are written: no build."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from api import assets, demo
from shared.errors import NotFound
from shared.settings import PROJECT_ROOT, settings

FOLDER = PROJECT_ROOT / "web" / "src" / "pages"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
#: The page runs its own scripts and speaks with its own server; it holds no markup made of text.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
#: Asked for anew each time: whoever edits a file sees it at the next load.
HEADERS = {"content-security-policy": POLICY, "cache-control": "no-cache"}

#: The media type of each file that may be served, by its name: nothing else can be asked for.
FILES = {path.name: MEDIA_TYPES[path.suffix] for path in FOLDER.glob("*") if path.suffix in MEDIA_TYPES}

router = APIRouter(include_in_schema=False)
router.include_router(demo.router)
router.include_router(assets.router)


#: Address → file, of what exists in development only.
PAGES = {"/notifications": "notifications.html", "/events": "events.html"}


def _page(name: str) -> Response:
    return FileResponse(FOLDER / name, headers=HEADERS, media_type="text/html")


@router.get("/")
async def start() -> Response:
    """The demonstration in development; in production a page that only says what this is."""
    return _page("index.html" if settings().development else "plain.html")


@router.get("/notifications")
@router.get("/events")
async def page(request: Request) -> Response:
    """The full page of one of the demo people, and the form that sends any event."""
    if not settings().development:
        raise NotFound
    return _page(PAGES[request.url.path])


@router.get("/static/pages/{name}")
async def file(name: str) -> Response:
    """One of the page's files."""
    media_type = FILES.get(name)
    if media_type is None or not settings().development:
        raise NotFound
    return FileResponse(FOLDER / name, headers=HEADERS, media_type=media_type)
