"""Fetching GitHub's examples: what was not locked is not unpacked."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from tests.fetch_webhook_examples import SHA512, fetch, payloads, verified


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "package.tgz"
    path.write_bytes(b"what the registry sent")
    return path


def test_an_archive_with_the_locked_hash_is_taken(archive: Path) -> None:
    locked = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    assert verified(archive, locked) == archive


def test_an_archive_with_another_hash_is_refused_in_one_sentence(archive: Path) -> None:
    with pytest.raises(SystemExit, match="is not what was locked"):
        verified(archive)


def test_without_npm_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"install it .*apt-get install npm"):
        fetch(tmp_path / "examples")
    assert not (tmp_path / "examples").exists()


def test_what_was_fetched_before_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "sha512").write_text(SHA512)
    fetch(tmp_path)


def test_the_payloads_are_there() -> None:
    fetch()
    assert payloads().stat().st_size > 0
