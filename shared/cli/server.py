"""Speaking to the running server: where it is, and its problems as exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from shared.cli.console import CommandFailed
from shared.errors import FieldError
from shared.settings import settings

#: Addresses that a server listens on but nobody can call.
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - recognised, not bound
CONNECT_SECONDS = 3.0
#: The server gives up its own database statements after 5 s and answers 503.
ANSWER_SECONDS = 30.0
TIMEOUT = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)


def base_url(server: str | None = None) -> str:
    """Return the server's address without a slash at its end: `server`, or where a running `make up` listens."""
    if server:
        return server.rstrip("/")
    chosen = settings()
    return f"http://{ANY_ADDRESS.get(chosen.host, chosen.host)}:{chosen.port}"


@contextmanager
def client(server: str | None = None, token: str | None = None) -> Iterator[httpx.Client]:
    """Give a client for the server. A server that cannot be reached raises `CommandFailed` with what to do."""
    url = base_url(server)
    headers = bearer(token) if token else {}
    try:
        # A proxy from the shell's environment has no way to a server on this machine.
        with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT, trust_env=bool(server)) as made:
            yield made
    except httpx.ConnectError:
        raise unreachable(url) from None


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a key or a token; raises `CommandFailed` for one that no header can carry."""
    if not (token.isascii() and token.isprintable()):
        raise CommandFailed("The key or token is not valid: it has other characters than letters, digits, - _ and .")
    return {"authorization": f"Bearer {token}"}


def unreachable(url: str) -> CommandFailed:
    """Return the failure to reach the server, with what to do."""
    return CommandFailed(f"Carillon does not answer at {url}: start it with `make up`, or name it with --server.")


def problem_of(answer: httpx.Response) -> CommandFailed:
    """Return the server's problem document as an exception; its sentence is the problem's own."""
    try:
        body: Any = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or "title" not in body:
        return CommandFailed(f"The server answered {answer.status_code} {answer.reason_phrase}.")
    errors = tuple(FieldError(_place(error), str(error.get("message", ""))) for error in body.get("errors", []))
    title, detail = str(body["title"]).rstrip("."), str(body.get("detail", "")).rstrip(".")
    told = title if detail in ("", title) else f"{title}: {detail}"
    return CommandFailed(f"{told} ({answer.status_code}).", errors=errors)


def _place(error: dict[str, Any]) -> str:
    """Return the field's name, with its event's number in the batch (counted from 0) where there is one."""
    index = error.get("index")
    field = str(error.get("field", ""))
    return field if index is None else f"[{index}].{field}".rstrip(".")
