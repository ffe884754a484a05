"""Work on the database told as a generator of statements: written once, run by the API and by the workers alike.

A program yields a statement with its parameters, is sent the rows, and returns its result. What it decides between is
plain code over rows; whether the connection blocks is the runner's affair.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, CursorResult, TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")
Step = tuple[TextClause, Mapping[str, Any]]
Row = Mapping[str, Any]
Rows = Sequence[Row]
Program = Generator[Step, Rows, T]


def run(connection: Connection, program: Program[T]) -> T:
    """Run `program` on a blocking connection, inside whatever transaction that is in."""
    try:
        statement, parameters = next(program)
        while True:
            statement, parameters = program.send(_rows(connection.execute(statement, parameters)))
    except StopIteration as end:
        result: T = end.value
        return result


async def arun(connection: AsyncConnection, program: Program[T]) -> T:
    """Run `program` on an asyncio connection, inside whatever transaction that is in."""
    try:
        statement, parameters = next(program)
        while True:
            statement, parameters = program.send(_rows(await connection.execute(statement, parameters)))
    except StopIteration as end:
        result: T = end.value
        return result


def _rows(result: CursorResult[Any]) -> Rows:
    return cast(Rows, result.mappings().all()) if result.returns_rows else ()
