"""A program of ours that cannot start says so in one sentence and exits with 1, whoever starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs import module

#: A start imports everything; the machine may be busy.
UVICORN = ("uvicorn", "--factory", "api.app:create_app")
WORKER = ("celery", "-A", "workers.app", "worker")
NO_DATABASE = "CARILLON_DATABASE_URL is not set: set it, or start everything with `make up`.\n"
NO_BROKER = "No broker: set CARILLON_BROKER_URL and CARILLON_REDIS_URL, or start with `make up`.\n"
SHORT = {"CARILLON_JWT_SECRET": "short"}
TOO_SHORT = "CARILLON_JWT_SECRET: must be at least 32 bytes long.\n"
NO_ADDRESS = {"CARILLON_REDIS_URL": "localhost:6379"}
WRONG_ADDRESS = "CARILLON_REDIS_URL: must be a URL such as redis://user:password@host:6379/0.\n"


@pytest.mark.parametrize(
    ("program", "setting", "sentence"),
    [
        (UVICORN, {}, NO_DATABASE),
        (UVICORN, NO_ADDRESS, WRONG_ADDRESS),
        (WORKER, {}, NO_BROKER),
        (WORKER, SHORT, TOO_SHORT),
    ],
)
def test_a_start_that_is_refused_is_one_sentence(
    program: tuple[str, ...], setting: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    ended = module({"CARILLON_DATA_DIR": str(tmp_path), **setting}, *program)
    assert (ended.returncode, ended.stderr) == (1, sentence)
