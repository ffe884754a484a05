"""`carillon tail`: follow a recipient's stream, readably."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.text import Text

from shared.cli.console import CommandFailed, out

if TYPE_CHECKING:
    from shared.cli.follow import Told

STYLES = {"URGENT": "bold red", "HIGH": "yellow", "NORMAL": "bold", "LOW": "dim bold"}
#: A token for following lives an hour; another is made for each new connection.
TOKEN_SECONDS = 3600


def tail(
    *,
    tenant: str = typer.Option(..., "--tenant", help="The recipient's tenant."),
    recipient: str = typer.Option(..., "--recipient", help="Whose stream to follow."),
    since: str | None = typer.Option(None, "--since", help="A cursor: begin with what changed after it."),
    token: str | None = typer.Option(None, "--token", help="A token of the recipient.  [default: one is made]"),
    json: bool = typer.Option(False, "--json", help="One JSON object a line: id, event, data."),
    limit: int | None = typer.Option(None, "--limit", min=1, help="End after so many notification frames."),
    server: str | None = typer.Option(None, "--server", help="The server's address.  [default: the running `make up`]"),
) -> None:
    """Follow a recipient's stream. A cut connection is resumed by its cursor: nothing is missed, nothing told twice."""
    from shared.cli.follow import Follower
    from shared.cursor import parse_cursor
    from shared.tokens import make_token

    start = parse_cursor(since) if since else None
    if since and start is None:
        raise CommandFailed("--since must be a cursor of the form <epoch>-<seq>.")
    source = (lambda: token) if token else (lambda: make_token(tenant, recipient, (), TOKEN_SECONDS))
    show: Callable[[Told], None] = _show_json if json else _Reader(tenant, recipient).show
    left = limit
    for told in Follower(server, source, start).frames():
        show(told)
        if left is not None and told.event == "notification":
            left -= 1
            if not left:
                return


def _show_json(told: Told) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(told.as_json()).decode() + "\n")
    sys.stdout.flush()


class _Reader:
    """Turns frames into lines for people; remembers titles, so that "read" can say of what."""

    #: Titles kept; older ones are told by their ids.
    KEPT = 1_000

    def __init__(self, tenant: str, recipient: str) -> None:
        self._who = f"{tenant}/{recipient}"
        self._titles: dict[str, str] = {}

    def show(self, told: Told) -> None:
        """Print one frame; heartbeats print nothing."""
        name = told.event.replace("-", "_")
        describe = getattr(self, f"_{name}", None)
        if describe is not None:
            describe(told.data)

    def _line(self, sign: str, words: str | Text, counters: dict[str, Any] | None = None) -> None:
        line = Text.from_markup(f"[dim]{datetime.now().astimezone():%H:%M:%S}[/dim] {sign} ")
        line.append_text(words if isinstance(words, Text) else Text.from_markup(words))
        if counters and "unreadCount" in counters:
            line.append(f"  ({counters['unreadCount']} unread)", style="dim")
        out.print(line)

    def _connected(self, data: dict[str, Any]) -> None:
        self._line("[green]●[/green]", f"following {escape(self._who)} at {data['head']}", data)

    def _synced(self, data: dict[str, Any]) -> None:
        self._line("[green]●[/green]", f"up to date at {data['cursor']}", data)

    def _reset(self, data: dict[str, Any]) -> None:
        self._line("[yellow]![/yellow]", f"too far behind to be told: the list begins anew at {data['head']}", data)

    def _goodbye(self, data: dict[str, Any]) -> None:
        self._line("[yellow]○[/yellow]", f"the server said goodbye ({data['reason']})")

    def _offline(self, data: dict[str, Any]) -> None:
        words = f"offline: {escape(data['reason'])}; trying again in {data['retrySeconds']} s"
        self._line("[yellow]○[/yellow]", words)

    def _notification(self, data: dict[str, Any]) -> None:
        kind = data["type"]
        if kind == "changed":
            for notification in data["notifications"]:
                self._line("[cyan]~[/cyan]", self._whole(notification), data)
            if data["deletedIds"]:
                self._line("[red]-[/red]", f"deleted {self._names(data['deletedIds'])}", data)
        elif "notification" in data:
            self._line(
                "[cyan]+[/cyan]" if kind == "created" else "[cyan]~[/cyan]", self._whole(data["notification"]), data
            )
        else:
            self._line("[blue]·[/blue]", self._change(kind, data), data)

    def _whole(self, notification: dict[str, Any]) -> Text:
        self._remember(notification)
        text = Text(_printable(notification["title"]), style=STYLES.get(notification["priority"], ""))
        text.append(f"  {_printable(notification['message'])}", style="default not bold")
        if notification["actionUrl"]:
            text.append(f"  {_printable(notification['actionUrl'])}", style="blue not bold")
        return text

    def _remember(self, notification: dict[str, Any]) -> None:
        self._titles[notification["id"]] = _printable(notification["title"])
        if len(self._titles) > self.KEPT:
            del self._titles[next(iter(self._titles))]

    def _change(self, kind: str, data: dict[str, Any]) -> str:
        ids = data.get("notificationIds") or ([data["notificationId"]] if data.get("notificationId") else [])
        what = f"{self._names(ids)}" if ids else f"up to {data.get('upTo', 'now')}"
        reason = f" ({data['reason']})" if data.get("reason") else ""
        return f"{kind.replace('_', ' ')} {what}{reason}"

    def _names(self, ids: list[str]) -> str:
        return ", ".join(escape(f"“{self._titles[id]}”" if id in self._titles else id) for id in ids)


def _printable(text: str) -> str:
    """Return the text on one line, without what could move a terminal's cursor."""
    from shared.joint_log import visible

    return visible(" ".join(text.split()))
