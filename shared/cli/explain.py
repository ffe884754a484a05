"""`carillon explain`: why somebody did, or did not, get an event."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from shared.cli.console import CommandFailed, out


def explain(
    id: str = typer.Argument(..., help="The event's id.", metavar="EVENT"),
    recipient: str = typer.Argument(..., help="The recipient's id.", metavar="RECIPIENT"),
    *,
    tenant: str = typer.Option(..., "--tenant", help="The event's tenant."),
    source: str = typer.Option(..., "--source", help="The event's source."),
    recipient_tenant: str | None = typer.Option(
        None, "--recipient-tenant", help="The recipient's tenant, where it is not the event's."
    ),
    json: bool = typer.Option(False, "--json", help="As one JSON object."),
) -> None:
    """Tell what became of an event for one recipient: the rule that matched or why none did, and each step's time."""
    from shared.errors import NotFound
    from shared.explain import explain as explained
    from shared.plans import run_plan

    try:
        told = run_plan(explained(tenant, source, id, recipient, recipient_tenant))
    except NotFound:
        raise CommandFailed(f"There is no event {id} of {source} in {tenant}.") from None
    if json:
        import orjson

        out.print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode(), markup=False)
        return
    out.print(f"{told['outcome']}: {told['reason']}", markup=False)
    out.print(f"trace_id {told['event']['traceId']} in the logs", markup=False)
    for each in (_steps(told["steps"]), _rules(told["rules"])):
        out.print()
        out.print(each)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 3, 0, 0))


def _steps(steps: list[dict[str, Any]]) -> Table:
    table = _table("when", "what", "")
    for each in steps:
        table.add_row(each["at"].isoformat(sep=" ", timespec="milliseconds"), each["step"], Text(each["note"] or ""))
    return table


def _rules(rules: list[dict[str, Any]]) -> Table:
    table = _table("rule", "who", "of", "matches today")
    for each in rules:
        matches = Text("yes", "green") if each["matches"] else Text(f"no: {each['why']}")
        table.add_row(each["kind"], Text(each["name"] or ""), Text(each["tenant"] or "every tenant"), matches)
    return table
