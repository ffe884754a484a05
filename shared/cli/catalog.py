"""`carillon catalog`: look at the event types, and check them before they are deployed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from shared.cli.console import CommandFailed, out

if TYPE_CHECKING:
    from shared.catalog import Audience, Catalog, EventType

catalog_app = typer.Typer(help="Look at the event types, and check them.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Option("--folder", help="The catalog's folder.  [default: the one in use]")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

#: Whom the preview of a personal text is for.
_SAMPLE_RECIPIENT = {"id": "ada", "locale": "en", "attributes": {}}


@catalog_app.command()
def check(folder: Folder = None) -> None:
    """Say every fault of the catalog in a sentence and exit 1; without faults say how many types there are."""
    found = _loaded(folder)
    domains = {kind.domain for kind in found}
    out.print(f"{len(found)} event types in {len(domains)} domains, no faults.")


@catalog_app.command("list")
def list_types(
    domain: Annotated[str | None, typer.Option("--domain", help="Only the types of this domain.")] = None,
    json: AsJson = False,
    folder: Folder = None,
) -> None:
    """Show every event type: what it is called, how urgent it is, how long it lives, and who is told."""
    found = _loaded(folder)
    domains = sorted({kind.domain for kind in found})
    if domain is not None and domain not in domains:
        raise CommandFailed(f"There is no domain `{domain}`; there are {', '.join(domains)}.")
    shown = [kind for kind in found if domain in (None, kind.domain)]
    if json:
        _print_json([_row(kind) for kind in shown])
    else:
        _print_table(shown)


@catalog_app.command()
def preview(
    name: Annotated[str, typer.Argument(help="An event type, such as certificate.issued.", metavar="TYPE")],
    data: Annotated[
        str | None, typer.Option("--data", help="The event's data, in JSON.  [default: the example]")
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="The event's tenant.")] = "acme",
    json: AsJson = False,
    folder: Folder = None,
) -> None:
    """Show the texts of a type, one for each audience, as its example or the given data fill them."""
    kind = _loaded(folder).get(name)
    if kind is None:
        raise CommandFailed(f"There is no event type `{name}`: see `carillon catalog list`.")
    filled = kind.example if data is None else _parsed(kind, data)
    texts = [_texts(kind, audience, filled, tenant) for audience in kind.audiences]
    if json:
        _print_json(texts)
        return
    for text in texts:
        _print_texts(kind, text)
    if not texts:
        out.print(f"{name} is counted and shown to nobody.")


@catalog_app.command()
def types(folder: Folder = None) -> None:
    """Print TypeScript declarations of every event's data and every notification's metadata."""
    from shared.catalog.typescript import declarations

    typer.echo(declarations(_loaded(folder)), nl=False)


def _loaded(folder: Path | None) -> Catalog:
    from shared.catalog import catalog, load_catalog

    return catalog() if folder is None else load_catalog(folder)


def _parsed(kind: EventType, data: str) -> dict[str, Any]:
    import orjson

    from shared.errors import InvalidInput

    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError as problem:
        raise CommandFailed(f"--data is not valid JSON: {problem}.") from None
    errors = kind.errors(parsed)
    if errors:
        raise InvalidInput(f"The data does not fit {kind.name}.", errors=errors)
    accepted: dict[str, Any] = parsed
    return accepted


def _texts(kind: EventType, audience: Audience, data: dict[str, Any], tenant: str) -> dict[str, Any]:
    from shared.templates import render

    rendered = render(kind, audience, data, tenant=tenant, recipient=_SAMPLE_RECIPIENT)
    return {
        "audience": told(audience),
        "title": rendered.title,
        "message": rendered.message,
        "actionUrl": rendered.action_url,
        "metadata": kind.metadata_of(data),
    }


def told(audience: Audience) -> str:
    """Return who an audience is, in words: `role university_admin (own tenant)`."""
    words = {
        "recipient": f"the {audience.field}",
        "topic": f"topic {audience.topic}",
        "role": f"role {audience.role} ({'every tenant' if audience.scope == 'all' else 'own tenant'})",
        "everyone": "everyone",
        "posted": "whom the event's audience names",
    }[audience.kind]
    words += f", if {audience.when}" if audience.when else ""
    return words + (", but not the actor" if audience.exclude_actor else "")


def _row(kind: EventType) -> dict[str, Any]:
    return {
        "type": kind.name,
        "notificationType": kind.notification_type,
        "domain": kind.domain,
        "category": kind.category,
        "priority": kind.priority,
        "timeToLive": _lifetime(kind.time_to_live),
        "shown": kind.shown,
        "retired": kind.retired,
        "audiences": [told(audience) for audience in kind.audiences],
        "description": kind.description,
        "schema": kind.schema,
        "example": kind.example,
    }


def _lifetime(time_to_live: timedelta | None) -> str | None:
    if time_to_live is None:
        return None
    days, rest = divmod(int(time_to_live.total_seconds()), 86_400)
    return f"{days}d" if not rest else f"{rest // 60 + days * 1_440}m"


def _print_json(rows: list[dict[str, Any]]) -> None:
    import orjson

    for row in rows:
        typer.echo(orjson.dumps(row).decode())


def _print_table(kinds: list[EventType]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("type", "category", "priority", "lives", "who is told"):
        table.add_column(heading, overflow="fold")
    for kind in kinds:
        who = "\n".join(told(audience) for audience in kind.audiences) or "nobody (counted)"
        table.add_row(kind.name, kind.category, kind.priority, _lifetime(kind.time_to_live) or "always", escape(who))
    out.print(table)


def _print_texts(kind: EventType, text: dict[str, Any]) -> None:
    out.print(f"[dim]{kind.notification_type} {kind.priority} → {escape(text['audience'])}[/dim]")
    out.print(text["title"], style="bold", markup=False)
    out.print(text["message"], markup=False)
    out.print(text["actionUrl"] or "(no link)", style="cyan", markup=False)
    out.print()
