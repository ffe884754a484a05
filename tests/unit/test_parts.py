"""What the parts are given: settings whole, and nothing of a shell that would bend them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.cli.up import _workers
from shared.parts import LANES, beat_part, flower_part, inherited, local_url, settings_environment, worker_part
from shared.settings import Settings

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        broker_url="redis://:hidden@127.0.0.1:1/1",
        jwt_secret=SECRET,
        action_url_hosts=("a.example", "b.example"),
        worker_concurrency=3,
        tenant_databases={"uni-north": "postgresql://u:p@h/north"},
        outboxes={"registrar": {"url": "postgresql://u:p@h/d", "tenants": ["uni-north", "*"]}},
    )


def test_settings_reach_a_part_unchanged(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_the_libraries_own_variables_stay_behind() -> None:
    shell = {
        "PATH": "/bin",
        "CARILLON_PORT": "1",
        "CELERY_BROKER_URL": "redis://elsewhere",
        "FLOWER_UNAUTHENTICATED_API": "true",
        "UVICORN_WORKERS": "4",
        "WEB_CONCURRENCY": "4",
        "PGHOST": "elsewhere",
        "FORCE_COLOR": "1",
    }
    assert inherited(shell).keys() - {"PYTHONUNBUFFERED", "PYTHONWARNINGS"} == {"PATH"}


def test_every_queue_has_one_lane() -> None:
    queues = [queue for lane in LANES.values() for queue in lane]
    assert sorted(queues) == sorted(set(queues))


def test_the_relay_runs_where_there_is_an_outbox(settings: Settings) -> None:
    names = [part.name for part in _workers(settings, {})]
    assert names == [*LANES, "relay"]
    assert [part.name for part in _workers(settings.model_copy(update={"outboxes": {}}), {})] == [*LANES]


def test_no_command_shows_a_secret(settings: Settings) -> None:
    environment = settings_environment(settings)
    parts = [worker_part("urgent", settings, environment), beat_part(settings, environment)]
    parts.append(flower_part(settings, environment, "password", "cookie"))
    told = " ".join(argument for part in parts for argument in part.command())
    assert [secret for secret in (SECRET, "hidden", "password", "cookie") if secret in told] == []


def test_flower_stands_on_loopback_behind_its_password(settings: Settings) -> None:
    flower = flower_part(settings, {}, "password", "cookie").environment
    assert (flower["FLOWER_ADDRESS"], flower["FLOWER_BASIC_AUTH"]) == ("127.0.0.1", "operator:password")


def test_flowers_history_is_dropped_after_a_death_and_kept_at_a_first_start(settings: Settings) -> None:
    history = settings.data_dir / "flower.dat"
    history.touch()
    flower = flower_part(settings, {}, "password", "cookie")
    flower.prepare()
    assert history.exists()
    flower.prepare()
    assert not history.exists()


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("10.0.0.1", "http://10.0.0.1:1")]
)
def test_the_api_is_asked_where_it_can_be_reached(host: str, url: str) -> None:
    assert local_url(host, 1) == url
