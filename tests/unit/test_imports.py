"""What a process does not carry that does not use it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        # Nobody may ever ask in GraphQL.
        ("api.app", ("strawberry", "graphql")),
        # `carillon --help` answers at once.
        ("shared.cli", ("sqlalchemy", "alembic", "httpx", "celery")),
    ],
)
def test_what_is_rarely_used_is_imported_late(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"
