"""Settings: each is written down, and a wrong one is a sentence that names it."""

import re
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import PROJECT_ROOT, Settings, load_settings
from shared.settings_checks import misspelt


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
        ("CARILLON_SECRET_KEY", "c2hvcnQ=", "CARILLON_SECRET_KEY: must be 32 bytes in url-safe base64."),
        ("CARILLON_SECRET_KEY", "no base64", "CARILLON_SECRET_KEY: must be 32 bytes in url-safe base64."),
        ("CARILLON_DATABASE_URL", "hunter2", "CARILLON_DATABASE_URL: must be a URL such as postgresql://"),
        (
            "CARILLON_DATABASE_URL",
            "mysql://u:hunter2@h/d",
            "CARILLON_DATABASE_URL: must be a URL such as postgresql://",
        ),
        ("CARILLON_DATABASE_OWNER_URL", "postgresql://u:hunter2@h:no/d", "CARILLON_DATABASE_OWNER_URL: must be a URL"),
        ("CARILLON_REDIS_URL", "localhost:6379", "CARILLON_REDIS_URL: must be a URL such as redis://"),
        ("CARILLON_REDIS_URL", "redis://:hunter2@h:no/0", "CARILLON_REDIS_URL: must be a URL such as redis://"),
        ("CARILLON_TENANT_INBOX_CAPS", '{"acme": "5"}', "CARILLON_TENANT_INBOX_CAPS: must be a JSON object of whole"),
        (
            "CARILLON_TENANT_INBOX_CAPS",
            '{"acme": 0}',
            "CARILLON_TENANT_INBOX_CAPS: acme: Input should be greater than or",
        ),
        ("CARILLON_BROKER_URL", "localhost", "CARILLON_BROKER_URL: must be a URL such as redis://"),
        ("CARILLON_BROKER_URL", "confluentkafka://u:hunter2@h", "redis://user:password@host:6379/0 or amqp://user:"),
        ("CARILLON_BROKER_URL", "unix:///run/hunter2.sock", "CARILLON_BROKER_URL: must be a URL such as redis://"),
        ("CARILLON_OUTBOXES", "postgresql://h/d", "CARILLON_OUTBOXES: must be a JSON object such as {"),
        ("CARILLON_OUTBOXES", '{"a": {"url": "x"}}', "CARILLON_OUTBOXES: a.tenants: Field required."),
        (
            "CARILLON_OUTBOXES",
            '{"a": {"url": "mysql://u:hunter2@h/d", "tenants": ["*"]}}',
            "CARILLON_OUTBOXES: must give a a URL such as postgresql://",
        ),
        (
            "CARILLON_OUTBOXES",
            '{"a": {"url": "postgresql://h/d", "tenants": []}}',
            "CARILLON_OUTBOXES: must name the tenants that a may post for, or * for all.",
        ),
        ("CARILLON_BROKER_URL", "pyamqps://u:p@host//", "CARILLON_BROKER_URL"),
        (
            "CARILLON_OUTBOXES",
            '{"A b": {"url": "postgresql://h/d", "tenants": ["*"]}}',
            "CARILLON_OUTBOXES: must name each outbox in lower-case letters",
        ),
        (
            "CARILLON_OUTBOXES",
            '{"a": {"url": "postgresql://h/d", "tenants": ["*"]}, "b": {"url": "postgresql://h/d", "tenants": ["*"]}}',
            "CARILLON_OUTBOXES: must name each outbox once: b is one of the others.",
        ),
        (
            "CARILLON_OUTBOXES",
            '{"a": {"url": "postgresql://h/d", "tenants": ["*"], "password": "hunter2"}}',
            "CARILLON_OUTBOXES: a.password: Unexpected keyword argument.",
        ),
    ],
)
def test_a_wrong_setting_is_a_sentence_that_names_it(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert sentence in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("database_url", "postgresql://u:p@/name?host=/run/postgresql"),
        ("database_url", "postgresql+psycopg://u:p%40@[::1]:5432/name"),
        ("redis_url", "redis://localhost"),
        ("redis_url", "rediss://user:p:w@host:6379/0?ssl_ca_certs=/ca.pem"),
        ("redis_url", "unix:///run/redis.sock?db=1"),
        ("broker_url", "amqp://guest:guest@one:5672//;amqp://two//"),
        ("broker_url", "amqps://u:p@host:5671/vhost"),
        ("broker_url", "redis+socket:///run/redis.sock"),
        ("broker_url", "sentinel://:p@one:26379;sentinel://two:26379"),
    ],
)
def test_an_address_is_taken_in_every_form_that_its_driver_knows(name: str, url: str) -> None:
    assert getattr(load_settings(**{name: url}), name).get_secret_value() == url


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CARILLON_HEARBEAT_SECONDS", "CARILLON_HEARTBEAT_SECONDS"),
        ("CARILLON_ALLOWED_ORIGIN", "CARILLON_ALLOWED_ORIGINS"),
        ("CARILLON_LOGLEVEL", "CARILLON_LOG_LEVEL"),
        ("CARILLON_PORT", None),
        ("CARILLON_KEY", None),
        ("CARILLON_OWNER_PASSWORD", None),
        ("CARILLON_PORT_8000_TCP_PORT", None),
        ("HEARTBEAT_SECOND", None),
    ],
)
def test_a_misspelt_setting_is_told_and_names_of_others_are_not(variable: str, meant: str | None) -> None:
    told = list(misspelt([variable, "PATH"], Settings.model_fields))
    assert told == ([f"{variable} is no setting, so nobody reads it: is {meant} meant?"] if meant else [])


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
