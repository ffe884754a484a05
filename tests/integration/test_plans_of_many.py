"""Reads of many inboxes at once look each of them up, however few inboxes there are and however many tenants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, TextClause, create_engine, text

from shared import inbox
from shared.arrays import array_of, numbers_of
from shared.db import sqlalchemy_url
from shared.roles import APP
from tests.directory import Row

TENANTS, EACH, ASKED = 4, 20, 40
WHO = {
    "tenants": [f"many{number % TENANTS}" for number in range(ASKED)],
    "recipients": [f"r{number}" for number in range(ASKED)],
}
AFTER = {**WHO, "epochs": [1] * ASKED, "seqs": [0] * ASKED}
STATEMENTS: dict[str, tuple[TextClause, dict[str, Any]]] = {
    "heads": (inbox.read_heads(), WHO),
    "behind": (inbox.read_behind(), {**AFTER, "keys": [0] * ASKED}),
    "changes": (inbox.read_changes(), {**AFTER, "max_changes": 500, "max_rows": 1_000}),
}


@pytest.fixture
def reader(configured: dict[str, str], db: psycopg.Connection[Row]) -> Iterator[Connection]:
    """A transaction of the API within all these tenants, on tables that the planner knows.

    It avoids nested loops where it can, as it does by itself where a table has a certain size.
    """
    db.execute("INSERT INTO tenants (id) SELECT 'many' || g FROM generate_series(0, %s) g", (TENANTS - 1,))
    db.execute(
        "INSERT INTO inboxes (tenant, recipient) SELECT 'many' || g %% %s, 'r' || g FROM generate_series(0, %s) g",
        (TENANTS, TENANTS * EACH - 1),
    )
    db.execute("ANALYZE inboxes")
    engine = create_engine(sqlalchemy_url(configured["CARILLON_DATABASE_URL"]))
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL ROLE {APP}"))
        everyone = "{" + ",".join(sorted(set(WHO["tenants"]))) + "}"
        connection.execute(text("SELECT set_config('app.tenants', :tenants, true)"), {"tenants": everyone})
        for method in ("nestloop", "seqscan", "bitmapscan"):
            connection.execute(text(f"SET LOCAL enable_{method} = off"))
        yield connection
    engine.dispose()


@pytest.mark.parametrize("name", STATEMENTS)
def test_each_inbox_is_looked_up_and_no_other_one_is_read(reader: Connection, name: str) -> None:
    """Fails as a join: with these values all inboxes of all these tenants are read and hashed (0.1 s for 100,000)."""
    statement, given = STATEMENTS[name]
    explained = f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) {statement.text}"
    plan = "\n".join(reader.scalars(text(explained), given))
    assert f" on inboxes i_1 (actual rows=1.00 loops={ASKED})" in plan, plan
    assert "Join" not in plan.replace("Nested Loop Left Join", ""), plan


def test_arrays_come_to_the_database_as_they_are_meant(reader: Connection) -> None:
    names = ["ada", 'a"b', "back\\slash", "{x,y}", "NULL", " ", "", "o'b", "ü%(x)s:y"]
    given = {"names": array_of(names), "numbers": numbers_of([0, -1, 2**63 - 1])}
    statement = text("SELECT CAST(:names AS text[]) AS names, CAST(:numbers AS bigint[]) AS numbers")
    assert tuple(reader.execute(statement, given).one()) == (names, [0, -1, 2**63 - 1])
