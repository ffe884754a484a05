"""Two universities with databases of their own beside the shared one, and who is at home where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from shared import databases
from shared.databases import working_in
from tests.directory import Row
from tests.producers import bearer, envelope
from workers.fan_out import fan_out_pending
from workers.forward import forward_pending

NORTH, SOUTH, PLATFORM = "uni-north", "uni-south", "platform"
ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
#: Reaches the one whom it names, and nobody else.
GRADE = {"student_id": "ada", "course_id": "rust", "course_title": "Rust", "grade": "A"}
STUDENTS = {NORTH: ("ada", "ben"), SOUTH: ("cleo",)}
ADMINS = {NORTH: "grace", SOUTH: "hugo"}

Session = psycopg.Connection[Row]


@dataclass
class Split:
    """The three databases, as their owner sees them."""

    sessions: dict[str, Session] = field(default_factory=dict)

    def rows(self, name: str, query: str) -> list[tuple[Any, ...]]:
        """Return a query's rows from one database."""
        return [tuple(row.values()) for row in self.sessions[name].execute(query.encode()).fetchall()]

    def told(self) -> dict[str, list[tuple[str, str, str]]]:
        """Return for each database who got which notification: tenant, recipient, type."""
        query = """SELECT n.tenant, i.recipient, n.type FROM notifications n JOIN inboxes i ON i.key = n.key
                   WHERE n.deleted_at IS NULL ORDER BY 1, 2, 3"""
        return {name: self.rows(name, query) for name in self.sessions}


def work() -> None:
    """Fan out and forward everything that is pending, as workers would."""
    for _ in range(2):
        for name in databases.names():
            with working_in(name):
                fan_out_pending()
                forward_pending()


def issued(id: str, tenant: str = NORTH, **changes: Any) -> dict[str, Any]:
    """Return an event for Ada and the university's admins."""
    return envelope(id, tenant=tenant, type="certificate.issued", data={**ISSUED, **changes})


async def state(api: httpx.AsyncClient, key: str, id: str, tenant: str = NORTH) -> dict[str, Any]:
    """Return what the API tells of an event."""
    query = {"source": "/tests", "tenant": tenant}
    answer = await api.get(f"/api/events/{id}", params=query, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def people(split: Split, name: str) -> list[tuple[str, str]]:
    """Return who is at home in a database: tenant, recipient."""
    return [(row[0], row[1]) for row in split.rows(name, "SELECT tenant, id FROM recipients ORDER BY 1, 2")]
