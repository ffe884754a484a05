"""The web client's files: what is kept, what is compressed, who may load them."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import httpx
import pytest

from api.assets import FILES, VERSION
from shared.settings import PROJECT_ROOT
from tests.edge import Edge

KEPT = f"/static/carillon/v{VERSION}"


def test_a_versioned_module_is_kept_for_a_year_and_open_to_every_origin(edge: Edge) -> None:
    answer = httpx.get(f"{edge.server.url}{KEPT}/core/client.js", headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == (PROJECT_ROOT / "web/src/core/client.js").read_bytes()


def test_latest_is_asked_for_anew_and_not_sent_again(edge: Edge) -> None:
    address = f"{edge.server.url}/static/carillon/latest/core/client.js"
    first = httpx.get(address, headers={"accept-encoding": "identity"})
    assert first.headers["cache-control"] == "no-cache"
    assert "content-encoding" not in first.headers
    again = httpx.get(address, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_every_file_has_its_integrity(edge: Edge) -> None:
    told = httpx.get(f"{edge.server.url}{KEPT}/integrity.json").json()
    assert told["version"] == VERSION
    assert set(told["files"]) == set(FILES)
    for name, integrity in told["files"].items():
        body = httpx.get(f"{edge.server.url}{KEPT}/{name}").content
        assert integrity == "sha384-" + base64.b64encode(hashlib.sha384(body).digest()).decode()


@pytest.mark.parametrize(
    "path", [f"{KEPT}/core/missing.js", f"{KEPT}/../pages/index.html", "/static/carillon/v0.0.1/core/client.js",
             f"{KEPT}/core/../../../package.json", f"{KEPT}/"]
)  # fmt: skip
def test_nothing_else_is_served(edge: Edge, path: str) -> None:
    assert httpx.get(f"{edge.server.url}{path}").status_code == 404


def test_the_package_has_the_version_that_is_served() -> None:
    assert json.loads((PROJECT_ROOT / "web/package.json").read_text())["version"] == VERSION


IMPORT = re.compile(r'(?:from|import)\s*\(?\s*"([^"]+)"')
COMMENT = re.compile(r"/\*\*.*?\*/|^\s*//.*?$", re.DOTALL | re.MULTILINE)


def test_modules_import_nothing_that_is_not_served() -> None:
    for name, path in FILES.items():
        for target in IMPORT.findall(COMMENT.sub("", path.read_text())):
            known = target == "react" or (path.parent / target).resolve() in FILES.values()
            assert known, f"{name} imports {target}"
