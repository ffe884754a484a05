"""Settings: each is written down, and a wrong one is a sentence that names it."""

import re
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import PROJECT_ROOT, Settings, load_settings


@pytest.fixture(autouse=True)
def nobody_else_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CARILLON_DATA_DIR", str(tmp_path))


def test_every_setting_is_written_down_and_nothing_else() -> None:
    written = set(re.findall(r"CARILLON_([A-Z_]+)`", (PROJECT_ROOT / "docs" / "settings.md").read_text()))
    assert written == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("CARILLON_JWT_SECRET", "short", "CARILLON_JWT_SECRET: must be at least 32 bytes long."),
        ("CARILLON_PORT", "99999", "CARILLON_PORT: Input should be less than or equal to 65535."),
        ("CARILLON_HEARTBEAT_SECONDS", "soon", "CARILLON_HEARTBEAT_SECONDS: Input should be a valid number"),
    ],
)
def test_a_wrong_setting_is_a_sentence_that_names_it(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert sentence in str(raised.value)


def test_production_names_what_it_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARILLON_ENVIRONMENT", "production")
    monkeypatch.setenv("CARILLON_JWT_SECRET", "x" * 32)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert "CARILLON_DATABASE_URL" in str(raised.value)
    assert "CARILLON_JWT_SECRET" not in str(raised.value)


def test_secrets_are_not_shown() -> None:
    shown = repr(load_settings(jwt_secret="s" * 40, database_url="postgresql://u:hidden@h/d"))
    assert "hidden" not in shown
    assert "ssss" not in shown
