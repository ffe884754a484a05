"""What the tests of the periodic jobs have in common: a small inbox, and what a job tells."""

from __future__ import annotations

import psycopg

from tests import directory
from tests.directory import Row
from workers.fan_out import fan_out_pending

CAP = 5
#: The settings of that cap, and of two tenants' own.
CAPS = {"CARILLON_INBOX_CAP": str(CAP), "CARILLON_TENANT_INBOX_CAPS": '{"bolt": 2, "core": 7}'}
ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
COMPLETED = {"job_id": "j1", "job_name": "Import", "total": 3, "succeeded": 3}
Database = psycopg.Connection[Row]


def fill(db: Database, many: int, tenant: str = "acme") -> None:
    """Give Ada so many certificates."""
    for _ in range(many):
        directory.add_event(db, "certificate.issued", ISSUED, tenant=tenant)
    fan_out_pending()


def shown(db: Database, key: int) -> list[int]:
    """Return the ordinals of what an inbox shows, oldest first."""
    return [row["ordinal"] for row in directory.notifications(db, key) if row["deleted_at"] is None]


def job(db: Database, task: str) -> Row:
    """Return what a job tells of itself."""
    row = db.execute("SELECT * FROM job_runs WHERE job = %s", (task,)).fetchone()
    assert row is not None
    return row
