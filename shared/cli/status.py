"""`carillon status`: the whole at one look."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from shared.cli.console import CommandFailed, out
from shared.liveness import QUEUE_AGE_SECONDS, SILENCE_SECONDS

STATE_STYLES = {"failed": "red", "accepted": "yellow", "fanning_out": "yellow", "cancelling": "yellow", "done": "green"}


def status(json: bool = typer.Option(False, "--json", help="As one JSON object.")) -> None:
    """Show servers, workers, the queue of record, events by state, inboxes, and what failed lately."""
    told = _read()
    if json:
        import orjson

        out.print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode(), markup=False)
    else:
        for table in _tables(told):
            out.print(table)
            out.print()
    if told["database"].get("away"):
        raise CommandFailed("The database does not answer: start it with `make up`, or correct CARILLON_DATABASE_URL.")


def _read() -> dict[str, Any]:
    from shared import broker, overview
    from shared.cli.server import base_url
    from shared.settings import settings

    redis_url, broker_url = (overview.url_of(settings(), name) for name in ("redis_url", "broker_url"))
    asked = broker.redis_url(broker_url) if broker_url else None
    return {
        "server": overview.of_server(base_url()),
        "database": _database(),
        "redis": overview.of_redis(redis_url) if redis_url else {"away": "not configured"},
        "broker": overview.of_redis(asked) if asked else {},
        "waiting": overview.waiting(broker_url) if broker_url else {},
    }


def _database() -> dict[str, Any]:
    from sqlalchemy.exc import OperationalError

    from shared import databases, db, overview
    from shared.errors import StartError

    try:
        told = []
        for name in databases.names():
            with db.transaction(db.EVERY_TENANT, database=name) as connection:
                told.append(overview.of_database(connection))
        return overview.of_all(told)
    except StartError as problem:
        return {"away": problem.detail}
    except OperationalError as problem:
        return {"away": str(problem.orig).strip().splitlines()[-1]}


def _tables(told: dict[str, Any]) -> list[Table]:
    database = told["database"]
    servers = _servers(told)
    if "away" in database:
        return [servers]
    tables = [servers, _lanes(database["lanes"], told["waiting"]), _numbers(database)]
    tables += [_jobs(database["jobs"])] if database["jobs"] else []
    return [*tables, _failed(database["failed"])] if database["failed"] else tables


def _table(title: str, *columns: str) -> Table:
    return Table(
        *columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 3, 0, 0)
    )


def _servers(told: dict[str, Any]) -> Table:
    table = _table("Servers", "server", "state", "what it says")
    for name in ("server", "database", "redis", "broker"):
        part = told[name]
        if not part:
            continue
        state = "[red]away[/red]" if "away" in part else "[green]there[/green]"
        table.add_row("api" if name == "server" else name, state, _says(name, part))
    return table


def _says(name: str, part: dict[str, Any]) -> str:
    if "away" in part:
        return str(part["away"])
    if name == "server":
        missing = part.get("degraded") or []
        words = str(part.get("status", ""))
        return f"{part['url']}  {words}" + (f"  without: {', '.join(missing)}" if missing else "")
    if name == "database":
        return f"PostgreSQL {part['postgres']}, epoch {part['epoch']}"
    return f"Redis {part['version']}, {part['memory']}, {part['clients']} clients, {part['evictionPolicy']}"


def _lanes(lanes: dict[str, float], waiting: dict[str, int]) -> Table:
    table = _table("Workers", "lane", "heartbeat", "waiting tasks")
    for lane in sorted(lanes):
        style = "green" if lanes[lane] < SILENCE_SECONDS else "red"
        table.add_row(lane, f"[{style}]{lanes[lane]:.0f} s ago[/{style}]", str(waiting.get(f"carillon.{lane}", "")))
    if not lanes:
        table.add_row("[red]no worker was heard yet[/red]", "", "")
    return table


def _numbers(database: dict[str, Any]) -> Table:
    queue, inboxes, directory = database["queue"], database["inboxes"], database["directory"]
    late = queue["oldestSeconds"] > QUEUE_AGE_SECONDS
    table = _table("Numbers", "what", "count", "")
    age = f"the oldest for {queue['oldestSeconds']:.1f} s" if queue["open"] else ""
    table.add_row("events in the queue", f"{queue['open']:,}", f"[red]{age}[/red]" if late else age)
    for state, count in database["events"].items():
        style = STATE_STYLES.get(state, "default")
        table.add_row(f"events {state.replace('_', ' ')}", f"[{style}]{count:,}[/{style}]", "")
    table.add_row("notifications made", f"{inboxes['created']:,}", f"{inboxes['shown']:,} shown in inboxes")
    table.add_row("unread", f"{inboxes['unread']:,}", f"{inboxes['unseen']:,} unseen")
    table.add_row(
        "recipients",
        f"{directory['recipients']:,}",
        f"{inboxes['inboxes']:,} inboxes, {directory['tenants']:,} tenants",
    )
    return table


def _jobs(jobs: list[dict[str, Any]]) -> Table:
    table = _table("Jobs", "job", "last run", "took", "did", "in all", "")
    for job in jobs:
        took, did = f"{job['lastSeconds']:.2f} s", f"{job['lastDone']:,}"
        table.add_row(job["job"], f"{job['secondsAgo']:.0f} s ago", took, did, f"{job['done']:,}", _job_note(job))
    return table


def _job_note(job: dict[str, Any]) -> str:
    if job["error"]:
        return f"[red]{job['error']}[/red]"
    faults = f"[red]{job['faults']:,} faults found[/red]" if job["faults"] else ""
    return faults or ("" if job["complete"] else "[yellow]goes on[/yellow]")


def _failed(rows: list[dict[str, Any]]) -> Table:
    from rich.text import Text

    table = _table("Failed lately (`carillon events retry`)", "tenant", "source", "id", "type", "tries", "why")
    for row in rows:
        words = (row["tenant"], row["source"], row["id"], row["type"], str(row["attempts"]), row["error"] or "")
        table.add_row(*(Text(word) for word in words))
    return table
