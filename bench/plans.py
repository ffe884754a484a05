"""The plans of the inbox's reads on five million notifications: each by index, each under a millisecond.

Builds 50,000 inboxes of 100 notifications in a temporary embedded PostgreSQL, as fan-outs leave them: the rows of one
inbox lie in a hundred different places. Every statement is planned as the API sends it, once with its values and once
as the generic plan that a prepared statement may come to, as `carillon_app` within one tenant: row-level security is
part of every plan. Ends with status 1 if a plan reads a large table from end to end, or takes over a millisecond.

    python bench/plans.py [--inboxes 50000] [--each 100]
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import TextClause

from bench.stored import TENANTS, fill
from shared import inbox, migration
from shared.embedded import EmbeddedPostgres
from shared.inbox_filter import Filter
from shared.roles import APP

MOST_MS = 1.0
#: The first run brings the pages into memory; the quickest of the others tells what the plan costs on a shared machine.
RUNS = 8
#: Tables of which a plan may read every row: one row, and what each person has a handful of.
SMALL = frozenset({"deployment"})
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_TIME = re.compile(r"Execution Time: ([0-9.]+) ms")
_SCAN = re.compile(r"Seq Scan on (\w+)")

Statement = tuple[str, TextClause, dict[str, Any]]
Session = psycopg.Connection[Any]


def statements(tenant: str, recipient: str, each: int) -> Iterator[Statement]:
    """Yield the inbox's reads, each with its name and values."""
    who = {"tenant": tenant, "recipient": recipient}
    many = {"tenants": [tenant], "recipients": [recipient], "epochs": [1]}
    narrow = Filter(
        unread=True,
        types=("ticket.assigned",),
        metadata='{"ticketId":"61"}',
        created_from=datetime(2020, 1, 1, tzinfo=UTC),
    )
    yield _page("page", Filter(), who, None)
    yield _page("page, deep", Filter(), who, each // 3)
    yield _page("page, filtered", narrow, who, None)
    yield "count", inbox.read_head(), who
    yield "count by category", inbox.read_categories(), who
    yield "changes, none", inbox.read_changes(), {**many, "seqs": [each], "max_changes": 500, "max_rows": 1_000}
    yield "changes, ten", inbox.read_changes(), {**many, "seqs": [each - 10], "max_changes": 500, "max_rows": 1_000}


def _page(name: str, shown: Filter, who: Mapping[str, Any], before: int | None) -> Statement:
    statement, values = inbox.read_page(shown)
    return name, statement, {**who, "before": before, "limit": 20, **values}


def become_application(session: Session, tenant: str) -> None:
    """Act as the API's role within one tenant; raises `SystemExit` where row-level security does not keep to that."""
    session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(APP)))
    for tenants in (f"{{{tenant}}}", "{elsewhere}", f"{{{tenant}}}"):
        session.execute("SELECT set_config('app.tenants', %s, false)", (tenants,))
        seen = {row[0] for row in session.execute("SELECT DISTINCT tenant FROM inboxes")}
        if seen != ({tenant} if tenant in tenants else set()):
            raise SystemExit(f"{APP} sees the inboxes of {seen} within {tenants}")


@contextmanager
def prepared(session: Session, statement: TextClause, values: Mapping[str, Any], mode: str) -> Iterator[sql.Composed]:
    """Prepare the statement, and give the command that runs it with the values."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    session.execute(f"SET plan_cache_mode = {mode}")
    text = _PARAMETER.sub(numbered, statement.text)
    session.execute(f"PREPARE measured AS {text}".encode())
    yield sql.SQL("EXECUTE measured ({})").format(sql.SQL(", ").join(sql.Literal(values[name]) for name in names))
    session.execute("DEALLOCATE measured")


def explained(session: Session, statement: TextClause, values: Mapping[str, Any], mode: str) -> tuple[float, str]:
    """Return the quickest execution in milliseconds, and its plan."""
    found = []
    with prepared(session, statement, values, mode) as command:
        for _ in range(RUNS):
            rows = session.execute(sql.SQL("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) ") + command).fetchall()
            plan = "\n".join(row[0] for row in rows)
            time_ms = _TIME.search(plan)
            assert time_ms is not None, plan
            found.append((float(time_ms[1]), plan))
    return min(found[1:])


def show(session: Session, tenant: str, recipient: str, each: int) -> list[str]:
    """Print every plan; return what is wrong with them."""
    wrong, table = [], []
    for name, statement, values in statements(tenant, recipient, each):
        for mode in ("force_custom_plan", "force_generic_plan"):
            took, plan = explained(session, statement, values, mode)
            print(f"\n== {name} ({mode.split('_')[1]}): {took:.3f} ms\n{plan}")
            table.append(f"{took:7.3f} ms  {name} ({mode.split('_')[1]})")
            scanned = set(_SCAN.findall(plan)) - SMALL
            wrong += [f"{name}: reads all of {table}" for table in sorted(scanned)]
            wrong += [f"{name}: {took:.3f} ms"] if took >= MOST_MS else []
            if "InitPlan" not in plan:
                wrong.append(f"{name}: row-level security is no part of the plan")
    print("\n" + "\n".join(table))
    return wrong


def main() -> int:
    """Fill, explain, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inboxes", type=int, default=50_000)
    parser.add_argument("--each", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carillon-plans-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres", fast=True)
        server.start()
        try:
            return measure(server.url(), asked.inboxes, asked.each)
        finally:
            server.stop()


def measure(url: str, inboxes: int, each: int) -> int:
    """Fill the database at `url`, print the plans, and return the exit status."""
    migration.migrate(url)
    with psycopg.connect(url, autocommit=True) as session:
        began = time.monotonic()
        fill(session, inboxes, each)
        print(f"{inboxes * each:,} notifications in {inboxes:,} inboxes after {time.monotonic() - began:.0f} s")
        middle = inboxes // 2
        tenant = TENANTS[middle % len(TENANTS)]
        become_application(session, tenant)
        wrong = show(session, tenant, f"r{middle}", each)
    print("\n" + ("\n".join(wrong) if wrong else f"each by index, each under {MOST_MS:g} ms"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
