"""How long an inbox keeps what it got: the clock of a type, and the caps of tenants and types."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

import pytest

from shared import catalog as catalogs
from shared.catalog import Catalog
from tests import directory
from tests.directory import count
from tests.upkeep import CAP, COMPLETED, Database, fill, shown
from workers import retention
from workers.fan_out import fan_out_pending
from workers.retention import cap, expire, forget, purge


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_INBOX_CAP": str(CAP), "CARILLON_TENANT_INBOX_CAPS": '{"bolt": 2, "core": 7}'}


@pytest.fixture
def ada(db: Database) -> int:
    return directory.add_recipients(db, "acme", ["ada"])["ada"]


# --- the clock ---


def test_what_a_type_lets_live_for_so_long_is_there_until_then_and_gone_after(db: Database) -> None:
    dean = directory.add_recipients(db, "acme", ["dean"], roles=["university_admin"])["dean"]
    directory.add_event(db, "batch_job.completed", COMPLETED)
    fan_out_pending()
    (row,) = directory.notifications(db, dean)
    lives = catalogs.catalog().types["batch_job.completed"].time_to_live
    assert lives is not None
    assert row["expires_at"] - row["created_at"] == lives
    assert expire(row["expires_at"] - timedelta(seconds=1))
    assert shown(db, dean) == [1]
    end = row["expires_at"] + timedelta(seconds=1)
    assert expire(end)
    (gone,) = directory.notifications(db, dean)
    assert (gone["deleted_at"], gone["deleted_for"], gone["title"]) == (end, "expired", "")
    _purged_after_a_week(db, dean, end)
    _forgotten_after_its_retention(db)


def _purged_after_a_week(db: Database, key: int, deleted_at: datetime) -> None:
    assert purge(deleted_at + timedelta(days=7))
    assert len(directory.notifications(db, key)) == 1
    assert purge(deleted_at + timedelta(days=7, seconds=1))
    assert directory.notifications(db, key) == []
    assert directory.inbox(db, key)["floor_seq"] == directory.inbox(db, key)["seq"] == 2


def _forgotten_after_its_retention(db: Database) -> None:
    row = db.execute("SELECT finished_at FROM events").fetchone()
    assert row is not None
    assert forget(row["finished_at"] + timedelta(days=30))
    assert count(db, "events") == 1
    assert forget(row["finished_at"] + timedelta(days=30, seconds=1))
    assert count(db, "events") == 0


# --- caps of tenants and types ---


def test_a_tenant_may_have_a_cap_of_its_own(db: Database, ada: int) -> None:
    bolt = directory.add_recipients(db, "bolt", ["ada"])["ada"]
    core = directory.add_recipients(db, "core", ["ada"])["ada"]
    for tenant in ("acme", "bolt", "core"):
        fill(db, 8, tenant)
    assert cap()
    assert [shown(db, key) for key in (ada, bolt, core)] == [[4, 5, 6, 7, 8], [7, 8], [2, 3, 4, 5, 6, 7, 8]]
    assert [directory.inbox(db, key)["seq"] for key in (ada, bolt, core)] == [9, 9, 9]


@pytest.fixture
def two_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an inbox show two certificates and no more."""
    types = catalogs.catalog().types
    capped = {**types, "certificate.issued": replace(types["certificate.issued"], cap=2)}
    monkeypatch.setattr(retention, "catalog", lambda: Catalog(MappingProxyType(capped)))


@pytest.mark.usefixtures("two_certificates")
def test_a_type_may_have_a_cap_of_its_own_and_others_stay(db: Database, ada: int) -> None:
    grade = {"student_id": "ada", "course_id": "c1", "course_title": "Algebra", "grade": "A"}
    directory.add_event(db, "grade.posted", grade)
    fill(db, 3)
    db.execute("UPDATE notifications SET read_at = now(), seen_at = now() WHERE ordinal = 2")
    db.execute("UPDATE inboxes SET unread = 3, unseen = 3")
    assert cap()
    assert shown(db, ada) == [1, 3, 4]
    told = directory.inbox(db, ada)
    assert (told["seq"], told["unread"], told["unseen"], told["total"], told["type_capped"]) == (5, 3, 3, 3, 4)
    assert directory.notifications(db, ada)[1]["deleted_for"] == "capped"
    assert cap()
    assert directory.inbox(db, ada)["seq"] == 5


@pytest.mark.usefixtures("two_certificates")
def test_an_inbox_with_more_of_a_type_than_one_change_may_take_is_looked_at_again(
    db: Database, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CAPPED_AT_ONCE", 2)
    fill(db, CAP)
    assert cap()
    assert (shown(db, ada), directory.inbox(db, ada)["type_capped"]) == ([3, 4, 5], 0)
    assert cap()
    assert (shown(db, ada), directory.inbox(db, ada)["type_capped"]) == ([4, 5], 5)
