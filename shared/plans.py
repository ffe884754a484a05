"""Work that goes over several databases: programs, each in a transaction of its own, written once for both runners.

A plan yields a part (where, for which tenants, which program), is sent the program's result, and returns its own. What
one part committed stays when a later one fails: plans are written so that doing them again is safe.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from shared import db
from shared.statements import Program, arun, run

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """One transaction: in which database, as which tenants, and what it does."""

    database: str
    tenants: tuple[str, ...]
    program: Program[Any]


Plan = Generator[Part, Any, T]


def run_plan(plan: Plan[T]) -> T:
    """Run a plan on blocking connections."""
    try:
        part = next(plan)
        while True:
            with db.transaction(*part.tenants, database=part.database) as connection:
                result = run(connection, part.program)
            part = plan.send(result)
    except StopIteration as end:
        told: T = end.value
        return told


async def arun_plan(plan: Plan[T]) -> T:
    """Run a plan on asyncio connections."""
    try:
        part = next(plan)
        while True:
            async with db.async_transaction(*part.tenants, database=part.database) as connection:
                result = await arun(connection, part.program)
            part = plan.send(result)
    except StopIteration as end:
        told: T = end.value
        return told
