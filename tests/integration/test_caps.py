"""How long an inbox keeps what it got: the clock of a type, and the caps of tenants and types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

import pytest

from beat_schedule import CAP_TASK, CAP_TYPES_TASK
from shared import catalog as catalogs
from shared.catalog import Catalog
from tests import directory
from tests.directory import count
from tests.statements import recorded
from tests.upkeep import CAP, CAPS, COMPLETED, ISSUED, Database, fill, job, shown
from workers import retention
from workers.fan_out import fan_out_pending
from workers.jobs import in_batches
from workers.retention import cap, cap_types, expire, forget, purge

#: How the statements begin that look at a page of inboxes, and that cap some of them.
LOOK, CAPPED = "SELECT max(i.key) AS", "WITH due AS"


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, **CAPS}


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
    assert cap_types()
    assert shown(db, ada) == [1, 3, 4]
    told = directory.inbox(db, ada)
    assert (told["seq"], told["unread"], told["unseen"], told["total"], told["type_capped"]) == (5, 3, 3, 3, 4)
    assert directory.notifications(db, ada)[1]["deleted_for"] == "capped"
    assert cap_types()
    assert directory.inbox(db, ada)["seq"] == 5


@pytest.mark.usefixtures("two_certificates")
def test_an_inbox_with_more_of_a_type_than_one_change_may_take_is_looked_at_again(
    db: Database, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CAPPED_AT_ONCE", 2)
    fill(db, CAP)
    with recorded() as told:
        assert cap_types()
    assert (shown(db, ada), directory.inbox(db, ada)["type_capped"]) == ([4, 5], 5)
    assert (told.count(LOOK), told.count(CAPPED), job(db, CAP_TYPES_TASK)["done"]) == (2, 2, 3)


def three_with(db: Database, many: int) -> list[int]:
    """Return the keys of three inboxes with so many certificates each."""
    keys = directory.add_recipients(db, "acme", ["one", "two", "three"])
    for person in keys:
        for _ in range(many):
            directory.add_event(db, "certificate.issued", {**ISSUED, "student_id": person})
    fan_out_pending()
    return sorted(keys.values())


@pytest.mark.usefixtures("configured")
def test_without_a_cap_of_a_type_nothing_is_looked_at_for_it(db: Database) -> None:
    three_with(db, CAP)
    with recorded() as told:
        assert cap_types()
    assert (told.count(LOOK), told.count(CAPPED), told.count("commit")) == (0, 0, 2)
    with recorded() as told:
        assert cap()
    assert (told.count(LOOK), told.count(CAPPED)) == (2, 0)


@pytest.mark.usefixtures("two_certificates", "configured")
def test_inboxes_are_capped_in_one_run_however_many_are_due_by_types(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a page's types are capped before the next page is looked at for what is over the inboxes' caps."""
    keys = three_with(db, CAP + 1)
    monkeypatch.setattr(retention, "INBOXES_SEEN", 1)
    monkeypatch.setattr(retention, "TYPED_AT_ONCE", 1)
    monkeypatch.setattr(retention, "in_batches", a_few(2))
    assert not cap_types()
    assert [len(shown(db, key)) for key in keys] == [2, CAP + 1, CAP + 1]
    monkeypatch.setattr(retention, "in_batches", in_batches)
    with recorded() as told:
        assert cap()
    assert [len(shown(db, key)) for key in keys] == [2, CAP, CAP]
    assert (told.count(LOOK), told.count(CAPPED)) == (4, 3)


def a_few(batches: int) -> Callable[[Callable[[], bool]], bool]:
    """Return an `in_batches` whose time is over after so many."""
    return lambda batch: not all(batch() for _ in range(batches))


@pytest.mark.usefixtures("two_certificates", "configured")
@pytest.mark.parametrize(("work", "left"), [(cap, CAP), (cap_types, 2)], ids=["inboxes", "types"])
def test_a_run_that_is_cut_off_within_a_page_goes_on_behind_the_last_inbox_that_it_did(
    db: Database, monkeypatch: pytest.MonkeyPatch, work: Callable[[], bool], left: int
) -> None:
    keys = three_with(db, CAP + 1)
    monkeypatch.setattr(retention, "TYPED_AT_ONCE", 1)
    monkeypatch.setattr(retention, "_within", lambda due, _most: list(due)[:1])
    monkeypatch.setattr(retention, "in_batches", a_few(2))
    many, done, positions = [], [], []
    task = CAP_TASK if work is cap else CAP_TYPES_TASK
    for _ in range(4):
        done.append(work())
        many.append([len(shown(db, key)) for key in keys])
        positions.append(job(db, task)["position"])
    full = CAP + 1
    assert many == [[left, full, full], [left, left, full], [left, left, left], [left, left, left]]
    assert done == [False, False, False, True]
    assert positions == [keys[1] - 1, keys[2] - 1, keys[2], keys[2]]


@pytest.mark.usefixtures("configured")
def test_a_run_that_began_amid_the_inboxes_goes_round_to_where_it_began(db: Database) -> None:
    """Fails when it ends with the last inbox: those before its first position were never looked at by it."""
    keys = three_with(db, CAP + 1)
    db.execute("INSERT INTO job_runs (job, position) VALUES (%s, %s)", (CAP_TASK, keys[1]))
    assert cap()
    assert [len(shown(db, key)) for key in keys] == [CAP, CAP, CAP]
