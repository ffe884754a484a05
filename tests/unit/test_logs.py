"""One event is one line, whatever strangers call themselves."""

from __future__ import annotations

import pytest

from shared.logs import configure_logs, log
from shared.settings import settings

HOSTILE = "ann\r\n2026-01-01 [info] key.created prefix=forged\x1b[2J\x9b1m\x00\u2028x"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_name_neither_ends_its_line_nor_moves_a_cursor(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], log_format: str
) -> None:
    monkeypatch.setenv("CARILLON_LOG_FORMAT", log_format)
    settings.cache_clear()
    configure_logs("test")
    log().info("access.denied", actor=HOSTILE)
    told = "".join(capfd.readouterr())
    assert told.count("\n") == 1
    assert not set(told.rstrip("\n")) & set("\r\n\x1b\x9b\x00\u2028")
    assert "forged" in told
