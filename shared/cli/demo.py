"""`carillon demo`: people to try it with, and GitHub's deliveries with a live view."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from shared.cli.console import CommandFailed, err, out

if TYPE_CHECKING:
    from rich.console import RenderableType

    from shared.cli.github_demo import Delivery, Outcome, Sender, Watch

demo_app = typer.Typer(no_args_is_help=True, help="Demonstrations, for development.")

#: Slow enough to be watched, and the whole within twenty seconds.
RATE = 20.0
REFRESH_PER_SECOND = 8
TITLE_WIDTH = 60


@demo_app.command("seed")
def seed() -> None:
    """Register the demo people of the five domains; again: nothing new."""
    from shared import demo as people
    from shared.plans import run_plan

    _require_development()
    run_plan(people.seed())
    out.print(f"{len(people.PEOPLE)} demo people in {len(people.tenants())} tenants are there.")


def _require_development() -> None:
    from shared.settings import settings

    if not settings().development:
        raise CommandFailed("Demonstrations are for development: they make people and secrets.")


@demo_app.command("github")
def github(
    payloads: Path | None = typer.Option(
        None, "--payloads", help="The examples' index.json.  [default: the fetched ones]"
    ),
    tenant: str | None = typer.Option(None, "--tenant", help="Where they arrive.  [default: helpdesk-acme]"),
    rate: float = typer.Option(RATE, "--rate", min=0, help="Deliveries a second; 0: as fast as they go."),
    server: str | None = typer.Option(None, "--server", help="The server's address.  [default: the running `make up`]"),
) -> None:
    """Post GitHub's own example deliveries, signed, and watch who is told of what."""
    from shared import demo as people
    from shared.cli import github_demo
    from shared.cli.server import client

    _require_development()
    deliveries = github_demo.read_deliveries(payloads or github_demo.PAYLOADS)
    logins = github_demo.logins(deliveries)
    place = tenant or people.HELPDESK
    github_demo.register(logins, place)
    watch = github_demo.Watch(server, place, logins)
    watch.connected()
    started = time.monotonic()
    with github_demo.secret_of(place) as secret, client(server) as http:
        sender = github_demo.Sender(http, place, secret)
        end = _play(deliveries, sender, watch, rate)
    _summary(sender, watch, end, time.monotonic() - started)
    if end.open or end.failed or watch.total < end.made:
        raise CommandFailed("Not everything arrived: `carillon status` and `carillon doctor` say more.")


def _play(deliveries: list[Delivery], sender: Sender, watch: Watch, rate: float) -> Outcome:
    """Post everything at its pace with the view above it; return how it ended."""
    from rich.live import Live

    from shared.cli.github_demo import settled

    latest = ""

    def view() -> RenderableType:
        return _view(sender, watch, len(deliveries), latest)

    with Live(get_renderable=view, console=err, refresh_per_second=REFRESH_PER_SECOND, transient=True):
        begin = time.monotonic()
        for number, delivery in enumerate(deliveries):
            latest = delivery.words
            sender.post(delivery)
            if rate:
                time.sleep(max(0.0, begin + (number + 1) / rate - time.monotonic()))
        *_, end = settled(sender, watch)
    return end


def _view(sender: Sender, watch: Watch, total: int, latest: str) -> Table:
    title = f"GitHub: {len(sender.ids)} of {total} deliveries, {watch.total} notifications   {latest}"
    table = _people(watch, Text(title))
    table.caption = "only those who were told something are shown"
    return table


def _people(watch: Watch, title: Text | str) -> Table:
    table = Table(
        "who",
        "told",
        "unread",
        "latest",
        title=title,
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 3, 0, 0),
    )
    for seen in sorted(watch.seen.values(), key=lambda seen: (-len(seen.notifications), seen.login.lower())):
        if seen.notifications:
            last = seen.notifications[-1]
            words = Text(f"{last['title']}: {last['message']}".replace("\n", " "))
            words.truncate(TITLE_WIDTH, overflow="ellipsis")
            table.add_row(Text(seen.login), str(len(seen.notifications)), str(seen.unread), words)
    return table


def _summary(sender: Sender, watch: Watch, end: Outcome, seconds: float) -> None:
    kinds = Counter(one["type"] for seen in watch.seen.values() for one in seen.notifications)
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(sender.answers.items()))
    out.print(_people(watch, Text("Who was told", style="bold")))
    out.print()
    for kind, count in kinds.most_common():
        out.print(f"{count:5}  {kind}")
    out.print()
    out.print(
        f"{len(sender.ids)} deliveries in {seconds:.1f} s (answers: {answers}): {end.made} notifications made, "
        f"{watch.total} told on {len(watch.seen)} streams, {end.failed} events failed, {end.open} still open."
    )
