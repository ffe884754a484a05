"""Why somebody did, or did not, get an event: every outcome, as the API and the command line tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import psycopg
import pytest

from shared.catalog import catalog
from shared.cli import app as cli
from shared.cli.console import run
from shared.tokens import make_token
from tests import directory
from tests.directory import Row
from tests.producers import bearer, envelope, make_key, post
from workers.cancel import withdraw
from workers.chunks import plan, run_chunk
from workers.fan_out import fan_out_pending
from workers.retention import cap, expire, purge

ISSUED = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
CALL = {"title": "Maintenance", "message": "Tonight", "audience": {"everyone": True}}
Database = psycopg.Connection[Row]


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, "CARILLON_INBOX_CAP": "1", "CARILLON_CHUNK_SIZE": "2"}


@pytest.fixture
def ada(db: Database) -> int:
    return directory.add_recipients(db, "acme", ["ada"], roles=["student"])["ada"]


async def ask(api: httpx.AsyncClient, key: str, who: str, event: str = "e1", **query: str) -> httpx.Response:
    given = {"source": "/tests", "tenant": "acme", **query}
    return await api.get(f"/api/events/{event}/recipients/{who}", params=given, headers=bearer(key))


async def explained(api: httpx.AsyncClient, key: str, who: str = "ada", event: str = "e1", **query: str) -> Any:
    answer = await ask(api, key, who, event, **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def add(db: Database, type: str = "certificate.issued", data: dict[str, Any] = ISSUED, id: str = "e1") -> int:
    key = directory.add_event(db, type, data, id=id)
    fan_out_pending()
    return key


def steps(told: Any) -> list[str]:
    return [each["step"] for each in told["steps"]]


async def test_what_was_told_and_not_seen_yet_is_published(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    add(db)
    told = await explained(api, key)
    assert (told["outcome"], steps(told)) == ("published", ["accepted", "stored", "fanned_out", "published"])
    assert told["recipient"] == {"tenant": "acme", "id": "ada", "registered": True}
    rule = {"audience": 1, "kind": "recipient", "name": "ada", "tenant": "acme", "matches": True, "why": None}
    assert {**told["rule"], "audience": 1} == rule
    assert told["notificationId"] == str(directory.notifications(db, ada)[0]["id"])
    assert [each["at"] for each in told["steps"]] == sorted(each["at"] for each in told["steps"])


async def test_what_redis_did_not_take_is_stored(db: Database, api: httpx.AsyncClient, key: str, ada: int) -> None:
    event = add(db)
    db.execute("UPDATE events SET published = 0, published_at = NULL WHERE key = %s", (event,))
    assert (await explained(api, key))["outcome"] == "stored"


@pytest.mark.parametrize("outcome", ["seen", "read", "archived"])
async def test_what_the_reader_did_is_told_with_its_time(
    db: Database, api: httpx.AsyncClient, key: str, ada: int, outcome: str
) -> None:
    add(db)
    marks = {"seen": 1, "read": 2, "archived": 3}
    for name in list(marks)[: marks[outcome]]:
        db.execute(f"UPDATE notifications SET {name}_at = now()".encode())
    told = await explained(api, key)
    assert told["outcome"] == outcome
    assert steps(told)[4:] == list(marks)[: marks[outcome]]


async def test_what_expired_was_capped_withdrawn_or_deleted_says_so(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    for id in ("capped", "cancelled", "expired"):
        event = add(db, id=id)
        db.execute("UPDATE events SET state = 'cancelling' WHERE key = %s AND id = 'cancelled'", (event,))
    withdraw(event - 1)
    assert cap()
    db.execute("UPDATE notifications SET expires_at = now() - interval '1 s' WHERE ordinal = 3")
    assert expire()
    told = {id: await explained(api, key, event=id) for id in ("capped", "cancelled", "expired")}
    assert {id: (each["outcome"], steps(each)[-1]) for id, each in told.items()} == {
        "capped": ("capped", "capped"),
        "cancelled": ("withdrawn", "cancelled"),
        "expired": ("expired", "expired"),
    }
    assert "withdrawn" in steps(told["cancelled"])
    db.execute("UPDATE notifications SET deleted_for = 'user' WHERE ordinal = 1")
    assert (await explained(api, key, event="capped"))["outcome"] == "deleted"
    assert purge(directory.notifications(db, ada)[0]["deleted_at"] + timedelta(days=8))
    assert (await explained(api, key, event="capped"))["outcome"] == "purged"


async def test_a_deletion_by_its_reader_is_told_as_theirs(
    db: Database, ada: int, api: httpx.AsyncClient, key: str
) -> None:
    add(db)
    id = directory.notifications(db, ada)[0]["id"]
    who = {"authorization": f"Bearer {make_token('acme', 'ada')}"}
    assert (await api.delete(f"/api/notifications/{id}", headers=who)).status_code == 200
    told = await explained(api, key)
    assert (told["outcome"], told["reason"]) == ("deleted", "The recipient deleted it.")


async def test_no_rule_says_for_each_why_it_does_not_match(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    directory.add_recipients(db, "acme", ["bob"], roles=["student"])
    add(db)
    told = await explained(api, key, "bob")
    assert (told["outcome"], told["rule"], told["notificationId"]) == ("no_rule", None, None)
    assert {(each["kind"], each["name"], each["why"]) for each in told["rules"]} == {
        ("recipient", "ada", "The data names another recipient in student_id."),
        ("role", "university_admin", "The recipient lacks the role university_admin."),
    }


async def test_who_did_it_and_who_is_no_member_are_told_apart(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    directory.add_recipients(db, "acme", ["cleo"], topics=["ticket:7"])
    comment = {"ticket_id": "7", "ticket_title": "Printer", "comment_id": "c", "excerpt": "x", "actor_id": "cleo"}
    add(db, "comment.added", comment)
    assert [(await explained(api, key, who))["rules"][0]["why"] for who in ("cleo", "ada")] == [
        "It leaves out who did it (actor_id).",
        "The recipient is no member of the topic ticket:7.",
    ]


async def test_an_event_that_is_not_fanned_out_yet_waits(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    directory.add_event(db, "certificate.issued", ISSUED, id="e1")
    assert (await explained(api, key))["outcome"] == "waiting"


async def test_events_that_failed_or_were_cancelled_before_say_so(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    directory.add_event(db, "certificate.issued", ISSUED, id="e1")
    db.execute("UPDATE events SET state = 'failed', error = 'Its text failed.', finished_at = now()")
    told = await explained(api, key)
    assert (told["outcome"], told["reason"]) == ("failed", "The event failed: Its text failed.")
    db.execute("UPDATE events SET state = 'cancelled'")
    assert (await explained(api, key))["outcome"] == "cancelled"


async def test_what_is_counted_is_shown_to_nobody(db: Database, api: httpx.AsyncClient, key: str, ada: int) -> None:
    add(db, "auth.login_failed", {"account_id": "ada"})
    assert (await explained(api, key))["outcome"] == "counted"


async def test_strangers_and_latecomers_are_told_apart(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    add(db, "system.announcement", CALL)
    assert (await explained(api, key, "nobody"))["outcome"] == "unknown_recipient"
    directory.add_recipients(db, "acme", ["late"])
    told = await explained(api, key, "late")
    assert (told["outcome"], told["rule"]["kind"]) == ("too_late", "everyone")
    directory.add_recipients(db, "acme", ["dean"])
    db.execute("UPDATE recipients SET created_at = created_at - interval '1 day' WHERE id = 'dean'")
    told = await explained(api, key, "dean")
    assert told["reason"] == "The rule matches today, and did not when the event was fanned out."


async def test_an_event_of_no_use_any_more_is_told_to_nobody(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    gone = envelope("e1", tenant="acme", type="certificate.issued", data=ISSUED, expirytime="2026-01-01T00:00:00Z")
    soon = envelope("e2", tenant="acme", type="certificate.issued", data=ISSUED, expirytime="2199-01-01T00:00:00Z")
    assert (await post(api, key, gone)).status_code == 202
    assert (await post(api, key, soon)).status_code == 202
    fan_out_pending()
    told = await explained(api, key)
    assert (told["outcome"], told["reason"]) == ("expired", "The event had expired before it was fanned out.")
    (row,) = directory.notifications(db, ada)
    assert row["expires_at"] == datetime(2199, 1, 1, tzinfo=UTC)


async def test_the_earlier_of_a_types_time_to_live_and_the_events_own_end_counts(
    db: Database, api: httpx.AsyncClient, key: str
) -> None:
    dean = directory.add_recipients(db, "acme", ["dean"], roles=["university_admin"])["dean"]
    completed = {"job_id": "j1", "job_name": "Import", "total": 3, "succeeded": 3}
    for id, year in (("e1", 2199), ("e2", datetime.now(UTC).year + 1)):
        given = envelope(id, tenant="acme", type="batch_job.completed", data=completed)
        assert (await post(api, key, {**given, "expirytime": f"{year}-12-31T00:00:00Z"})).status_code == 202
    db.execute("UPDATE events SET expires_at = accepted_at + interval '1 hour' WHERE id = 'e2'")
    fan_out_pending()
    lives = [row["expires_at"] - row["created_at"] for row in directory.notifications(db, dean)]
    assert lives[0] == catalog().types["batch_job.completed"].time_to_live
    assert timedelta(minutes=50) < lives[1] <= timedelta(hours=1)


async def test_an_expiry_that_is_no_time_is_refused(api: httpx.AsyncClient, key: str, ada: int) -> None:
    wrong = envelope("e1", tenant="acme", type="certificate.issued", data=ISSUED, expirytime="soon")
    answer = await post(api, key, wrong)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "expirytime")


def test_an_outbox_in_our_database_tells_the_expiry_too(db: Database, ada: int) -> None:
    event = {"specversion": "1.0", "id": "e1", "source": "/t", "type": "certificate.issued", "tenant": "acme"}
    given = {**event, "data": ISSUED, "expirytime": "2199-01-01T00:00:00Z"}
    db.execute("SELECT carillon_publish(%s)", (orjson.dumps(given).decode(),))
    row = db.execute("SELECT expires_at FROM events").fetchone()
    assert row is not None
    assert row["expires_at"].year == 2199
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="expirytime must be"):
        db.execute("SELECT carillon_publish(%s)", (orjson.dumps({**given, "expirytime": "soon"}).decode(),))


async def test_repetitions_are_counted_and_told(db: Database, api: httpx.AsyncClient, key: str, ada: int) -> None:
    event = envelope("e1", tenant="acme", type="certificate.issued", data=ISSUED)
    for _ in range(3):
        assert (await post(api, key, event)).status_code == 202
    fan_out_pending()
    told = await explained(api, key)
    notes = {each["step"]: each["note"] for each in told["steps"]}
    assert notes["duplicate"] == "posted 2 times more; nobody is told again"


async def test_a_large_event_is_told_by_the_recipients_own_part(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    directory.add_recipients(db, "acme", ["bob", "cleo"])
    event = add(db, "system.announcement", CALL)
    plan(event)
    run_chunk(event, 0)
    assert [(await explained(api, key, who))["outcome"] for who in ("ada", "cleo")] == ["published", "waiting"]


async def test_a_super_admin_of_the_platform_is_asked_about_by_their_own_tenant(
    db: Database, api: httpx.AsyncClient, ada: int
) -> None:
    directory.add_recipients(db, "platform", ["root"], roles=["super_admin"])
    add(db, "university.approved", {"university_id": "acme", "university_name": "Acme"})
    everywhere = make_key(None)
    told = await explained(api, everywhere, "root", recipientTenant="platform")
    assert (told["outcome"], told["rule"]["name"]) == ("published", "super_admin")
    assert (await explained(api, everywhere, "root"))["outcome"] == "unknown_recipient"


async def test_only_a_key_for_both_tenants_is_told(db: Database, api: httpx.AsyncClient, key: str, ada: int) -> None:
    add(db)
    assert (await ask(api, key, "ada", recipientTenant="bolt")).status_code == 403
    assert (await ask(api, key, "ada", tenant="bolt")).status_code == 403
    assert (await ask(api, key, "ada", event="unknown")).status_code == 404
    assert (await ask(api, make_key(["acme"], ("ops:read",)), "ada")).status_code == 403


async def test_ids_with_slashes_are_asked_for_as_they_are(
    db: Database, api: httpx.AsyncClient, key: str, ada: int
) -> None:
    add(db, id="a/recipients/b")
    query = {"source": "/tests", "tenant": "acme"}
    whole = await api.get("/api/events/a%2Frecipients%2Fb", params=query, headers=bearer(key))
    assert (whole.status_code, whole.json()["state"]) == (200, "done")
    assert (await explained(api, key, event="a%2Frecipients%2Fb"))["outcome"] == "published"


def test_the_command_line_tells_the_same(db: Database, ada: int, capsys: pytest.CaptureFixture[str]) -> None:
    add(db)
    names = ["explain", "e1", "ada", "--tenant", "acme", "--source", "/tests"]
    assert run(cli, names) == 0
    told = capsys.readouterr().out
    assert told.startswith("published: It is in the inbox")
    assert "no: The recipient lacks the role university_admin." in told
    assert run(cli, [*names, "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["outcome"] == "published"
    assert run(cli, ["explain", "other", *names[2:]]) == 1
