"""One recipient with an inbox, notified as producers and workers do it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg

from tests.directory import Row
from workers.fan_out import fan_out_pending

TENANT, WHO = "desk", "ada"
#: Notifies Ada: `publish("grade.posted", course_id="c1")`.
Publish = Callable[..., None]

DATA: dict[str, dict[str, Any]] = {
    "ticket.assigned": {"ticket_id": "7", "ticket_title": "Printer", "assignee_id": WHO},
    "mention.created": {
        "ticket_id": "7", "ticket_title": "Printer", "comment_id": "c", "excerpt": "x", "mentioned_id": WHO,
    },
    "grade.posted": {"student_id": WHO, "course_id": "c1", "course_title": "Algebra", "grade": "A"},
    "payment.due": {"student_id": WHO, "payment_id": "p1", "amount": "10.50", "currency": "EUR"},
    "certificate.verified": {"student_id": WHO, "certificate_id": "k1", "badge_title": "Welder"},
}  # fmt: skip


def publisher(db: psycopg.Connection[Row], tenant: str = TENANT) -> Publish:
    """Return what publishes and fans out events with valid data, each with an id of its own."""
    made = 0

    def publish(type: str, **data: Any) -> None:
        nonlocal made
        made += 1
        event = {"specversion": "1.0", "id": f"e{made}", "source": "/test", "type": type, "tenant": tenant}
        db.execute("SELECT carillon_publish(%s)", (json.dumps({**event, "data": {**DATA[type], **data}}),))
        fan_out_pending()

    return publish
