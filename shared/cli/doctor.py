"""`carillon doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from shared.cli.console import out
from shared.cli.status import QUEUE_AGE_SECONDS, SILENCE_SECONDS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shared.settings import Settings

#: Clocks this far apart move windows, expiry times and tokens noticeably.
SKEW_SECONDS = 2.0
#: A broker that evicts loses tasks without a word.
KEEPS_ALL = "noeviction"
LANES = ("urgent", "fan_out", "maintenance")
SIGNS = {"ok": "[green]✓[/green]", "warning": "[yellow]![/yellow]", "failure": "[red]✗[/red]"}

Level = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `advice` says what to do where it is not ok."""

    level: Level
    what: str
    advice: str = ""


def doctor() -> None:
    """Look at everything that must be there, and say what to do about what is not. Exits 1 after a failure."""
    failures = 0
    for finding in findings():
        failures += finding.level == "failure"
        out.print(f"{SIGNS[finding.level]} {finding.what}")
        if finding.advice:
            out.print(f"  → {finding.advice}")
    if failures:
        raise typer.Exit(1)


def findings() -> Iterator[Finding]:
    """Yield every finding, in the order in which they should be mended."""
    from shared.settings import settings

    yield from _database(settings())
    yield from _redis(settings())
    yield from _server()


def _database(chosen: Settings) -> Iterator[Finding]:
    from sqlalchemy.exc import DBAPIError, OperationalError

    from shared import db
    from shared.errors import StartError

    try:
        with db.transaction(db.EVERY_TENANT) as connection:
            yield Finding("ok", "the database answers")
            for check in _DATABASE_CHECKS:
                yield from check(connection)
    except StartError as problem:
        yield Finding("failure", "no database is known", problem.detail)
    except OperationalError:
        yield Finding(
            "failure", "the database does not answer", "start it with `make up`, or correct CARILLON_DATABASE_URL"
        )
    except DBAPIError as problem:
        if not db.is_unmigrated(problem):
            raise
        yield Finding("failure", "the database is not migrated", "run `carillon migrate`")


def _migrations(connection: Connection) -> Iterator[Finding]:
    from sqlalchemy import text

    from shared import db

    there = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if there == db.head_revision():
        yield Finding("ok", f"every migration is there ({there})")
    else:
        yield Finding(
            "failure",
            f"the database is at migration {there}, the program at {db.head_revision()}",
            "run `carillon migrate`",
        )


def _durability(connection: Connection) -> Iterator[Finding]:
    from sqlalchemy import text

    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        value = connection.scalar(text("SELECT current_setting(:name)"), {"name": name})
        if value == "off":
            yield Finding(
                "failure",
                f"PostgreSQL runs with {name} = off: an acknowledged event may be lost",
                f"set {name} = on in postgresql.conf",
            )


def _clock(connection: Connection) -> Iterator[Finding]:
    import time

    from sqlalchemy import text

    before = time.time()
    there = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())::float")) or 0)
    skew = there - (before + time.time()) / 2
    if abs(skew) > SKEW_SECONDS:
        yield Finding("warning", f"the database's clock is {skew:+.1f} s from this machine's", "let both follow NTP")
    else:
        yield Finding("ok", "the clocks agree")


def _lanes(connection: Connection) -> Iterator[Finding]:
    from shared import overview

    told = overview.of_database(connection)
    for lane in LANES:
        age = told["lanes"].get(lane)
        if age is None or age > SILENCE_SECONDS:
            heard = "was never heard" if age is None else f"was last heard {age:.0f} s ago"
            yield Finding(
                "failure",
                f"the lane {lane} has no worker: it {heard}",
                "start its worker and beat (`make up` starts all), and look into their log",
            )
        else:
            yield Finding("ok", f"the lane {lane} works ({age:.0f} s ago)")
    yield from _queue(told)


def _queue(told: dict[str, Any]) -> Iterator[Finding]:
    oldest = told["queue"]["oldestSeconds"]
    if told["queue"]["open"] and oldest > QUEUE_AGE_SECONDS:
        yield Finding(
            "failure",
            f"{told['queue']['open']:,} events wait, the oldest for {oldest:.0f} s",
            "look into the workers' log; more workers if they are merely busy",
        )
    else:
        yield Finding("ok", "no event waits for long")
    failed = told["events"].get("failed", 0)
    if failed:
        yield Finding(
            "warning", f"{failed:,} events failed", "`carillon status` says why, `carillon events retry` tries again"
        )


_DATABASE_CHECKS: tuple[Callable[[Connection], Iterator[Finding]], ...] = (_migrations, _durability, _clock, _lanes)


def _redis(chosen: Settings) -> Iterator[Finding]:
    from shared import overview

    for name, loss in (
        ("redis_url", "streams are repaired every few seconds only"),
        ("broker_url", "events wait for the sweeper"),
    ):
        url = overview.url_of(chosen, name)
        what = "Redis" if name == "redis_url" else "the broker"
        if url is None:
            yield Finding(
                "failure", f"no address of {what} is known", f"set CARILLON_{name.upper()}, or start with `make up`"
            )
        elif url.startswith("redis"):
            yield from _one_redis(what, name, overview.of_redis(url), loss)


def _one_redis(what: str, name: str, told: dict[str, Any], loss: str) -> Iterator[Finding]:
    if "away" in told:
        yield Finding("failure", f"{what} does not answer: {loss}", f"start it, or correct CARILLON_{name.upper()}")
        return
    yield Finding("ok", f"{what} answers (Redis {told['version']}, {told['milliseconds']} ms)")
    if told["evictionPolicy"] != KEEPS_ALL:
        yield Finding(
            "failure",
            f"{what} evicts ({told['evictionPolicy']}): when memory is short, tasks vanish",
            "set maxmemory-policy noeviction in redis.conf",
        )


def _server() -> Iterator[Finding]:
    from shared import overview
    from shared.cli.server import base_url

    told = overview.of_server(base_url())
    if "away" in told:
        yield Finding(
            "failure", f"the API does not answer at {base_url()}", "start it with `make up`, or set CARILLON_PORT"
        )
    elif told.get("status") != "ready":
        yield Finding("failure", f"the API is not ready: {told.get('missing')}", "see above")
    elif told.get("degraded"):
        yield Finding("warning", f"the API runs without {', '.join(told['degraded'])}", "see above")
    else:
        yield Finding("ok", f"the API is ready at {base_url()}")
