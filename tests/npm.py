"""The web client's development packages, as its lock file names them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from shared.settings import PROJECT_ROOT

WEB = PROJECT_ROOT / "web"
#: `npm ci` on a busy machine.
PATIENCE_S = 280


def run(*arguments: str, folder: Path = WEB) -> str:
    """Run a program in `folder` and return what it printed; fails with it."""
    environment = {**os.environ, "NO_COLOR": "1", "CI": "true"}
    done = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def install(folder: Path = WEB) -> Path:
    """Install what `folder`'s lock file names, unless it is there; returns its `node_modules`."""
    if shutil.which("npm") is None:
        pytest.fail("The web client's tests need npm (Debian: apt-get install npm).")
    installed = folder / "node_modules"
    stamp = installed / ".carillon-lock"
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        run("npm", "ci", "--no-progress", folder=folder)
        stamp.write_text(wanted)
    return installed
