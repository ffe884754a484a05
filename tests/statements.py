"""Counting what a piece of work asks of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from shared import db


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Collect what this process's blocking engine is sent: each statement's first words, `commit` and `rollback`."""
    told: list[str] = []

    def statement(_connection: Any, _cursor: Any, sql: str, *_rest: Any) -> None:
        told.append(" ".join(sql.split()[:3]))

    engine = db.engine_of()
    hooks = (
        ("before_cursor_execute", statement),
        ("commit", lambda _: told.append("commit")),
        ("rollback", lambda _: told.append("rollback")),
    )
    for name, hook in hooks:
        event.listen(engine, name, hook)
    try:
        yield told
    finally:
        for name, hook in hooks:
            event.remove(engine, name, hook)
