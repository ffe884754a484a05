"""`carillon run` becomes one part, with what `carillon up` would give it; `carillon health` tells whether it works."""

from __future__ import annotations

import os
import sys
from typing import Any

import httpx
import pytest

from shared import parts
from shared.cli import run_part
from shared.cli.console import CommandFailed
from shared.settings import PROJECT_ROOT, Settings, load_settings


class _Became(Exception):
    """Stands in for a process that has become another."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the process would have become: its arguments and its environment."""
    told: dict[str, Any] = {}

    def become(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        told.update(program=program, arguments=arguments, environment=environment)
        raise _Became

    monkeypatch.setattr(os, "execve", become)
    monkeypatch.setattr(os, "chdir", lambda folder: told.update(folder=folder))
    return told


def _run(monkeypatch: pytest.MonkeyPatch, part: str, **given: Any) -> Settings:
    made = load_settings(**given)
    monkeypatch.setattr(run_part, "load_settings", lambda: made)
    with pytest.raises(_Became):
        run_part.run_part(part)
    return made


@pytest.mark.parametrize("part", parts.OWN_PARTS)
def test_a_part_becomes_what_up_would_start(monkeypatch: pytest.MonkeyPatch, became: dict[str, Any], part: str) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    made = _run(monkeypatch, part, flower_password="a-password-of-this-test", log_level="warning")
    assert became["arguments"] == [sys.executable, "-m", *parts.arguments_of(part, made)]
    assert (became["program"], became["folder"]) == (sys.executable, PROJECT_ROOT)
    assert became["environment"]["CARILLON_LOG_LEVEL"] == "warning"
    assert "WEB_CONCURRENCY" not in became["environment"]
    # No password where `ps` would show it.
    assert "a-password-of-this-test" not in " ".join(became["arguments"])


def test_flower_alone_listens_where_the_api_would_and_asks_for_its_password(
    monkeypatch: pytest.MonkeyPatch, became: dict[str, Any]
) -> None:
    _run(monkeypatch, "flower", host="0.0.0.0", flower_password="a-password-of-this-test")
    assert became["environment"]["FLOWER_ADDRESS"] == "0.0.0.0"
    assert became["environment"]["FLOWER_BASIC_AUTH"] == "operator:a-password-of-this-test"
    monkeypatch.setattr(run_part, "load_settings", lambda: Settings(flower_password=None))
    with pytest.raises(CommandFailed, match="set CARILLON_FLOWER_PASSWORD"):
        run_part.run_part("flower")


@pytest.mark.parametrize("command", [run_part.run_part, run_part.health])
def test_a_part_that_does_not_exist_is_answered_by_those_that_do(command: Any) -> None:
    with pytest.raises(CommandFailed, match="There is no part worker: choose one of api, urgent, fan_out"):
        command("worker")


@pytest.mark.parametrize(
    ("part", "answer", "sentence"),
    [
        ("api", 200, None),
        ("api", 503, "http://127.0.0.1:8000/healthz answers 503."),
        ("flower", 200, None),
        ("flower", None, "http://127.0.0.1:5555/healthcheck does not answer (ConnectError)."),
    ],
)
def test_a_server_is_well_if_it_answers(
    monkeypatch: pytest.MonkeyPatch, part: str, answer: int | None, sentence: str | None
) -> None:
    def get(url: str, **_: Any) -> httpx.Response:
        if answer is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(answer, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
    # The container listens on every address, and asks itself on its own.
    monkeypatch.setattr(run_part, "load_settings", lambda: Settings(host="0.0.0.0"))
    if sentence is None:
        run_part.health(part)
        return
    with pytest.raises(CommandFailed) as fault:
        run_part.health(part)
    assert fault.value.detail == sentence


def test_a_relay_is_watched_by_its_alert_alone() -> None:
    run_part.health("relay")
