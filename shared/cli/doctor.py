"""`carillon doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from shared.cli.console import CommandFailed, err, out

if TYPE_CHECKING:
    from shared.doctor.finding import Finding

SIGNS = {"ok": "[green]✓[/green]", "warning": "[yellow]![/yellow]", "failure": "[red]✗[/red]"}
#: Whose stream is opened where no token is given: a recipient whom nothing else notifies.
TENANT, RECIPIENT = "platform", "carillon-doctor"
#: Longer than the longest heartbeat interval that can be set.
TOKEN_SECONDS = 600


def doctor(
    url: str | None = typer.Option(None, "--url", help="The public address: look at the stream as browsers meet it."),
    token: str | None = typer.Option(None, "--token", help="With --url: a recipient's token.  [default: one is made]"),
    quick: bool = typer.Option(False, "--quick", help="With --url: do not wait for a heartbeat (30 s)."),
    json: bool = typer.Option(False, "--json", help="As one JSON object."),
) -> None:
    """Look at everything that must be there, and say what to do about what is not. Exits 1 after a failure."""
    if url is None and (token or quick):
        raise CommandFailed("--token and --quick are about the stream at --url: name that, too.")
    if url is not None:
        url, token = _public(url), _token(token)
    found = []
    for finding in _findings(url, token or "", quick):
        found.append(finding)
        if not json:
            _show(finding)
    if json:
        _print(found)
    if any(finding.level == "failure" for finding in found):
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    out.print(f"{SIGNS[finding.level]} {escape(finding.what)}")
    if finding.advice:
        out.print(f"  → {escape(finding.advice)}")


def _print(found: list[Finding]) -> None:
    import orjson

    worst = next((level for level in ("failure", "warning") if any(each.level == level for each in found)), "ok")
    told = {"level": worst, "findings": found}
    out.print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode(), markup=False)


def _findings(url: str | None, token: str, quick: bool) -> Iterator[Finding]:
    """Yield every finding, in the order in which they should be mended."""
    from shared.doctor import database, host, outboxes, redis_servers
    from shared.settings import settings

    for looked_at in (host, database, outboxes, redis_servers):
        yield from looked_at.checks(settings())
    yield from _server()
    if url is not None:
        yield from _stream(url, token, quick)


def _server() -> Iterator[Finding]:
    from shared import overview
    from shared.cli.server import base_url
    from shared.doctor.finding import Finding

    told = overview.of_server(base_url())
    if "away" in told:
        advice = "start it with `make up`, or set CARILLON_HOST and CARILLON_PORT"
        yield Finding("failure", "api", f"the API does not answer at {base_url()}", advice)
    elif told.get("status") != "ready":
        yield Finding("failure", "api", f"the API is not ready: {told.get('missing')}", "see above")
    elif told.get("degraded"):
        yield Finding("warning", "api", f"the API runs without {', '.join(told['degraded'])}", "see above")
    else:
        yield Finding("ok", "api", f"the API is ready at {base_url()}")


def _public(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandFailed("--url must be an address such as https://notifications.example.org")
    return url.rstrip("/")


def _token(given: str | None) -> str:
    from shared.cli.server import bearer
    from shared.settings import settings
    from shared.tokens import make_token

    if not given and settings().jwt_secret is None:
        raise CommandFailed("Give a recipient's token: --token (one is made only where CARILLON_JWT_SECRET is known).")
    token = given or make_token(TENANT, RECIPIENT, (), TOKEN_SECONDS)
    bearer(token)
    return token


def _stream(url: str, token: str, quick: bool) -> Iterator[Finding]:
    from shared.doctor import stream

    if not quick:
        err.print("Waiting for a heartbeat of the stream (--quick does without) …")

    async def gathered() -> list[Finding]:
        return [finding async for finding in stream.checks(url, token, quick=quick)]

    yield from asyncio.run(gathered())
