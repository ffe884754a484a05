"""The web client's modules, served as they are written, under a versioned address that never changes what it gives.

`/static/carillon/v<version>/…` may be kept for a year; `/static/carillon/latest/…` is asked for anew each time. Both
are open to pages of any origin: they hold no secret, and a module of another origin is not loaded otherwise.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from shared.errors import NotFound
from shared.settings import PROJECT_ROOT

SOURCE = PROJECT_ROOT / "web" / "src"
PARTS = ("core", "elements", "locales", "react")
VERSION = version("carillon")
PREFIX = "/static/carillon"
#: A year, the longest that RFC 9111's implementations take: the address names the version.
KEPT = "public, max-age=31536000, immutable"
ASKED_ANEW = "no-cache"
#: Every file that may be served, by its address below the version: nothing else can be asked for.
FILES = {path.relative_to(SOURCE).as_posix(): path for part in PARTS for path in sorted((SOURCE / part).glob("*.js"))}

router = APIRouter(prefix=PREFIX, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file's bytes, as they are and compressed, and what names its content."""

    body: bytes
    zipped: bytes
    integrity: str

    @property
    def etag(self) -> str:
        """The content's name for `If-None-Match`."""
        return f'"{self.integrity}"'


@lru_cache(maxsize=128)
def _read(path: Path, changed_ns: int) -> Asset:
    body = path.read_bytes()
    digest = base64.b64encode(hashlib.sha384(body).digest()).decode()
    return Asset(body, gzip.compress(body, 9, mtime=0), f"sha384-{digest}")


def asset(name: str) -> Asset:
    """Return a file as it is now; raises `NotFound` for a name that is not among `FILES`."""
    path = FILES.get(name)
    if path is None:
        raise NotFound
    return _read(path, path.stat().st_mtime_ns)


def _headers(release: str) -> dict[str, str]:
    kept = KEPT if release == f"v{VERSION}" else ASKED_ANEW
    return {"cache-control": kept, "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin"}


def _require(release: str) -> None:
    if release not in (f"v{VERSION}", "latest"):
        raise NotFound(f"Here is version v{VERSION}; ask for that one, or for `latest`.")


@router.get("/{release}/integrity.json")
async def integrity(release: str) -> Response:
    """The hash of every file, for `integrity` attributes and import maps (Subresource Integrity)."""
    _require(release)
    told: dict[str, Any] = {"version": VERSION, "files": {name: asset(name).integrity for name in FILES}}
    return JSONResponse(told, headers=_headers(release))


@router.get("/{release}/{name:path}")
async def file(release: str, name: str, request: Request) -> Response:
    """One module; compressed for whoever takes that, 304 for whoever has it."""
    _require(release)
    found = asset(name)
    headers = {**_headers(release), "etag": found.etag, "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    if zipped:
        headers["content-encoding"] = "gzip"
    return Response(found.zipped if zipped else found.body, headers=headers, media_type="text/javascript")
