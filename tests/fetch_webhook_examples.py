"""Run as a script: fetch GitHub's example webhook payloads into `.cache/webhooks-examples/package/`.

A development dependency like any other, from npm's registry by npm itself, with a locked hash; nothing of it is copied
into the repository. Done once: the second run finds them. Exits 1 with one sentence when they cannot be had.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "@octokit/webhooks-examples"
VERSION = "7.6.1"
SHA512 = "De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ=="
TARGET = Path(__file__).resolve().parent.parent / ".cache" / "webhooks-examples"
#: A slow line takes seconds for these 300 kB; npm itself tries three times meanwhile.
NPM_SECONDS = 300


def payloads() -> Path:
    """Return the file that lists every webhook with its example payloads; it exists after `fetch()`."""
    return TARGET / "package" / "api.github.com" / "index.json"


def _pack(npm: str, folder: Path) -> Path:
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    packed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=NPM_SECONDS)
    if packed.returncode:
        words = (packed.stderr or packed.stdout).strip() or f"npm ended with {packed.returncode}"
        raise SystemExit(f"{PACKAGE} could not be fetched: {words}")
    return next(folder.glob("*.tgz"))


def verified(archive: Path, expected: str = SHA512) -> Path:
    """Return `archive` if its SHA-512 is the locked one; else end with one sentence that names both."""
    actual = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if not hmac.compare_digest(actual, expected):
        raise SystemExit(f"{PACKAGE} {VERSION} is not what was locked: sha512-{actual} instead of sha512-{expected}.")
    return archive


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
    else:
        # Python 3.11.2 (Debian 12) knows no filters. What is unpacked is the locked archive either way.
        archive.extractall(folder)


def fetch(target: Path = TARGET) -> None:
    """Leave the verified, unpacked package below `target`, whole or not at all."""
    stamp = target / "sha512"
    if stamp.exists() and stamp.read_text() == SHA512:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit(
            f"The tests need npm to fetch {PACKAGE}: install it (Debian: apt-get install npm), then again."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / "unpacked"
        with tarfile.open(verified(_pack(npm, Path(folder)))) as archive:
            _unpack(archive, fresh)
        (fresh / "sha512").write_text(SHA512)
        shutil.rmtree(target, ignore_errors=True)
        fresh.replace(target)


if __name__ == "__main__":
    fetch()
