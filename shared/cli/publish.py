"""`carillon publish`: post one event, or a file of events."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from shared.cli.console import CommandFailed, err, out
from shared.errors import InvalidInput, MalformedBody

if TYPE_CHECKING:
    from shared.cli.sender import Sender

#: The source of events that name none.
SOURCE = "/carillon/cli"


def publish(
    *,
    file: Path | None = typer.Argument(
        None, help="Events to post: a JSON array, or one event a line (NDJSON); - for standard input."
    ),
    type: str | None = typer.Option(None, "--type", help="The event's type, such as certificate.issued."),
    tenant: str | None = typer.Option(None, "--tenant", help="The tenant that the event belongs to."),
    source: str | None = typer.Option(None, "--source", help=f"Who says so, a URI reference.  [default: {SOURCE}]"),
    id: str | None = typer.Option(
        None, "--id", help="The event's id: the same again is a duplicate.  [default: a new one]"
    ),
    data: str | None = typer.Option(None, "--data", help="The event's data: JSON, or @FILE."),
    key: str | None = typer.Option(
        None,
        "--key",
        envvar="CARILLON_KEY",
        show_envvar=True,
        help="A producer key; in development one is made for this command alone.",
    ),
    server: str | None = typer.Option(None, "--server", help="The server's address.  [default: the running `make up`]"),
) -> None:
    """Post one event given by options, or a file of events; for a file, options fill in what its events leave out."""
    from shared.cli.producer import producer_key
    from shared.cli.sender import Sender
    from shared.cli.server import client

    given = {name: value for name, value in (("type", type), ("tenant", tenant), ("source", source)) if value}
    if file is not None and (id or data):
        raise CommandFailed("Give a file of events, or one event by --id and --data, not both.")
    event = None if file is not None else _event(given, id, data)
    with producer_key(key, ["events:write"]) as usable, client(server, usable) as http:
        if file is None:
            assert event is not None
            _one(Sender(http), event)
        else:
            _file(Sender(http), file, given)


def _event(given: dict[str, str], id: str | None, data: str | None) -> dict[str, Any]:
    from uuid import uuid4

    missing = [
        f"--{name}" for name, value in (*((n, given.get(n)) for n in ("type", "tenant")), ("data", data)) if not value
    ]
    if missing:
        raise CommandFailed(f"An event needs {', '.join(missing)}; or name a file of events.")
    return {"specversion": "1.0", "source": SOURCE, **given, "id": id or str(uuid4()), "data": _data(data or "")}


def _data(text: str) -> Any:
    from shared.strict_json import loads

    content = Path(text[1:]).read_bytes() if text.startswith("@") else text
    try:
        return loads(content)
    except MalformedBody as problem:
        raise CommandFailed(f"--data is not valid JSON: {problem.detail}") from None
    except InvalidInput as problem:
        raise CommandFailed("--data is not accepted:", errors=problem.errors) from None


def _one(sender: Sender, event: dict[str, Any]) -> None:
    told = sender.send_one(event)
    out.print(f"{told['status']} {told['id']}", markup=False)


def _file(sender: Sender, path: Path, given: dict[str, str]) -> None:
    from shared.cli.progress import transfer
    from shared.cli.sender import batches, read_events

    defaults = {"source": SOURCE, **given}
    with _opened(path) as (stream, size), transfer("Publishing", size) as advance:
        for batch in batches(read_events(stream, defaults)):
            sender.send(batch)
            advance(len(batch), sum(item.size for item in batch))
    counts = sender.counts
    out.print(f"{counts.total():,} events: {counts['accepted']:,} accepted, {counts['duplicate']:,} duplicate.")
    if not counts:
        err.print("The file holds no events.", style="yellow")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open a file for reading, with its size in bytes; `-` is standard input, whose size nobody knows."""
    if str(path) == "-":
        yield sys.stdin.buffer, None
        return
    with path.open("rb") as stream:
        yield stream, path.stat().st_size
