"""No library is older than the release that mended what would hurt here."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest
from packaging.version import Version

from shared.settings import PROJECT_ROOT

FLOORS = {
    "starlette": "1.3.1",
    "pyjwt": "2.15",
    "jinja2": "3.1.6",
    "strawberry-graphql": "0.312.3",
    "celery": "5.2.2",
    "flower": "2.2.0",
    "redis": "4.5.4",
}


@pytest.mark.parametrize("library", FLOORS)
@pytest.mark.parametrize("file", ["requirements.lock", "requirements-dev.lock"])
def test_no_library_is_locked_below_its_floor(file: str, library: str) -> None:
    found = re.search(rf"^{re.escape(library)}==(\S+)", (PROJECT_ROOT / file).read_text(), re.MULTILINE)
    assert found is not None
    assert Version(found[1]) >= Version(FLOORS[library])
    assert version(library) == found[1]
