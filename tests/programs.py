"""Programs of the product, run to their end as an operator does: processes with a test's settings alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shared.settings import PROJECT_ROOT
from tests.servers import base_environment

#: A start takes a second; a busy machine has many of them at once.
PATIENCE_S = 120.0
Ended = subprocess.CompletedProcess[str]


def carillon(environment: dict[str, str], *arguments: str) -> Ended:
    """Run the command line."""
    return _ended([str(Path(sys.executable).with_name("carillon")), *arguments], environment)


def module(environment: dict[str, str], *arguments: str) -> Ended:
    """Run `python -m …`."""
    return _ended([sys.executable, "-m", *arguments], environment)


def _ended(command: list[str], environment: dict[str, str]) -> Ended:
    return subprocess.run(
        command,
        env={**base_environment(), **environment},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
