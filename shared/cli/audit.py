"""`carillon audit`: who did what that bears on access."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from rich.table import Table

from shared.cli.console import out
from shared.cli.times import seconds_of

#: What is kept longer is asked for in SQL.
MAX_SINCE_SECONDS = 10 * 365 * 24 * 3600
MOST_SHOWN = 10_000


def audit(
    since: str = typer.Option("24h", "--since", help="How far back: like 30m, 24h, 7d."),
    action: str = typer.Option("", "--action", help="One action alone, such as key.created or access.denied."),
    tenant: str = typer.Option("", "--tenant", help="One tenant alone."),
    most: int = typer.Option(100, "--most", min=1, max=MOST_SHOWN, help="The latest so many."),
) -> None:
    """Show the audit log of all databases, the newest first: keys, secrets, revocations, cancels, imports, refusals."""
    from shared import audit
    from shared.plans import run_plan

    within = seconds_of("--since", since, MAX_SINCE_SECONDS)
    rows = run_plan(audit.read_everywhere(within, most, action or None, tenant or None))
    table = Table("at", "actor", "action", "tenant", "subject", "address", "details", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*_cells(row))
    out.print(table if rows else "There is no entry.")


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Return an entry's cells; names came from strangers, so nothing in them moves a cursor or marks text up."""
    from rich.markup import escape

    from shared.joint_log import visible

    details = " ".join(f"{name}={value}" for name, value in row["details"].items() if value is not None)
    plain = [row[name] or "" for name in ("actor", "action", "tenant", "subject", "address")]
    return [f"{row['at']:%Y-%m-%d %H:%M:%SZ}", *(escape(visible(cell)) for cell in (*plain, details))]
