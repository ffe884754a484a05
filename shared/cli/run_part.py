"""`carillon run` and `carillon health`: one part alone, as a container has it."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable

import typer

from shared.cli.console import CommandFailed, err
from shared.settings import PROJECT_ROOT, Settings, load_settings, unread_settings

#: A server on this host that takes longer is not well.
PATIENCE_S = 3.0
COOKIE_SECRET_BYTES = 32


def run_part(part: str = typer.Argument(..., help="api, urgent, fan_out, maintenance, relay, beat or flower.")) -> None:
    """Become one part, in the foreground: this process is then the API, a lane's worker, beat, the relay or Flower."""
    from shared import parts

    _require_known(part)
    chosen = load_settings()
    for sentence in unread_settings():
        err.print(sentence, markup=False)
    environment = {**parts.inherited(os.environ), **parts.settings_environment(chosen)}
    if part == "flower":
        environment |= _flower(chosen)
    os.chdir(PROJECT_ROOT)
    os.execve(sys.executable, [sys.executable, "-m", *parts.arguments_of(part, chosen)], environment)


def _flower(chosen: Settings) -> dict[str, str]:
    """Return Flower's own settings; it listens where the API would, since the container has it alone."""
    from shared.parts import flower_environment

    if chosen.flower_password is None:
        raise CommandFailed("Flower shows tasks to whoever comes: set CARILLON_FLOWER_PASSWORD.")
    password = chosen.flower_password.get_secret_value()
    return flower_environment(chosen, chosen.host, password, secrets.token_urlsafe(COOKIE_SECRET_BYTES))


def health(part: str = typer.Argument(..., help="What `carillon run` was told.")) -> None:
    """Exit 0 if that part of this host does its work, else 1 after a sentence: for containers' health checks.

    A lane does if any of its workers was heard lately. A database that does not answer says nothing about a worker.
    """
    _require_known(part)
    fault = _CHECKS.get(part, _lane_fault)(part, load_settings())
    if fault:
        raise CommandFailed(fault)


def _require_known(part: str) -> None:
    from shared.parts import OWN_PARTS

    if part not in OWN_PARTS:
        raise CommandFailed(f"There is no part {part}: choose one of {', '.join(OWN_PARTS)}.")


def _api_fault(_: str, chosen: Settings) -> str | None:
    return _http_fault(chosen.host, chosen.port, "/healthz")


def _flower_fault(_: str, chosen: Settings) -> str | None:
    return _http_fault(chosen.host, chosen.flower_port, "/healthcheck")


def _http_fault(host: str, port: int, path: str) -> str | None:
    import httpx

    from shared.parts import local_url

    url = f"{local_url(host, port)}{path}"
    try:
        answer = httpx.get(url, timeout=PATIENCE_S, trust_env=False)
    except httpx.HTTPError as problem:
        return f"{url} does not answer ({type(problem).__name__})."
    return None if answer.status_code == httpx.codes.OK else f"{url} answers {answer.status_code}."


def _lane_fault(lane: str, _: Settings) -> str | None:
    """Return why a lane counts as silent. Beat is heard by any of them: it queues their marks."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    from shared import db
    from shared.databases import SHARED
    from shared.liveness import SILENCE_SECONDS

    asked = text(
        "SELECT extract(epoch FROM clock_timestamp() - max(beaten_at))::float FROM heartbeats"
        " WHERE :lane = 'beat' OR lane = :lane"
    )
    try:
        with db.transaction(database=SHARED) as connection:
            silence = connection.scalar(asked, {"lane": lane})
    except DBAPIError as error:
        if not db.is_transient(error):
            raise
        return None
    if silence is not None and silence <= SILENCE_SECONDS:
        return None
    return f"{lane} was never heard." if silence is None else f"{lane} was last heard {silence:.0f} s ago."


_CHECKS: dict[str, Callable[[str, Settings], str | None]] = {
    "api": _api_fault,
    "flower": _flower_fault,
    # It has no port and leaves no mark of its own: the alert CarillonOutboxStill watches it.
    "relay": lambda _part, _chosen: None,
}
