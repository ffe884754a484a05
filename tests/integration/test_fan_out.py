"""The fan-out of small audiences, run in this process on a real database."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests import directory
from tests.directory import Row
from workers.fan_out import fan_out_pending

ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}


@pytest.fixture
def db(configured: dict[str, str]) -> Iterator[psycopg.Connection[Row]]:
    with directory.connect(configured["CARILLON_DATABASE_URL"]) as connection:
        yield connection


def test_an_event_for_one_person_becomes_one_notification_with_the_catalogs_words(db: psycopg.Connection[Row]) -> None:
    keys = directory.add_recipients(db, "acme", ["ada", "bob"])
    event = directory.add_event(db, "certificate.issued", ISSUED)
    fan_out_pending()
    (told,) = directory.notifications(db, keys["ada"])
    assert (told["title"], told["action_url"], told["ordinal"], told["created_seq"], told["seq"]) == (
        "Certificate Issued",
        "/student/certificates/c1",
        1,
        1,
        1,
    )
    assert directory.notifications(db, keys["bob"]) == []
    ended = directory.event(db, event)
    assert (ended["state"], ended["recipients"], ended["notifications"]) == ("done", 1, 1)
    directory.assert_numbered_without_gaps(db)
