"""Failed logins under attack: many accounts, one account; and the whole way with beat and worker."""

from __future__ import annotations

import time

import httpx
import psycopg
import pytest

from tests import directory
from tests.directory import Row
from tests.failed_logins import TENANT, admins, fail, moment, settle, stage_in_bulk, told, windows
from tests.listener import Listener, token_for
from tests.producers import BATCHED, bearer, envelope, make_key
from tests.servers import ApiServer
from workers.failed_logins import run
from workers.fan_out import fan_out_pending

#: Longer than both take on two busy cores; alone they take some seconds.
PATIENCE_S = 240
#: What is promised.
WITHIN_S = 15


def run_until_done(minute: float) -> int:
    """Run the job as often as it asks for; returns how often that was."""
    deadline, runs = time.monotonic() + PATIENCE_S, 1
    while not run(moment(minute)):
        assert time.monotonic() < deadline
        runs += 1
    return runs


@pytest.mark.timeout(600)
def test_ten_thousand_accounts_attacked_at_once_are_ten_thousand_windows(db: psycopg.Connection[Row]) -> None:
    keys = admins(db)
    accounts = [f"a{number}" for number in range(10_000)]
    stage_in_bulk(db, accounts, times=3, step_s=20)
    started = time.monotonic()
    runs = run_until_done(1)
    print(f"30,000 failures of 10,000 accounts counted in {time.monotonic() - started:.1f} s, {runs} runs")
    assert windows(db) == [(TENANT, account, 0, 3) for account in sorted(accounts)]
    made = "SELECT count(*) AS many, count(DISTINCT id) AS ids FROM events WHERE type = 'security.login_failed'"
    assert db.execute(made).fetchone() == {"many": 10_000, "ids": 10_000}
    started = time.monotonic()
    while directory.count(db, "events WHERE state = 'accepted'"):
        fan_out_pending()
    print(f"told in {time.monotonic() - started:.1f} s")
    directory.assert_numbered_without_gaps(db)
    assert [directory.inbox(db, keys[name])["total"] for name in ("root", "dean")] == [10_000, 10_000]
    for account in accounts[:1_000]:
        fail(db, 2, account=account)
    fan_out_pending()
    started = time.monotonic()
    run_until_done(3)
    print(f"1,000 windows told anew in {time.monotonic() - started:.1f} s")
    assert sum(each["failures"] for each in told(db, keys["dean"])) == 31_000
    assert [directory.inbox(db, keys[name])["seq"] for name in ("root", "dean")] == [11_000, 11_000]


@pytest.mark.timeout(600)
def test_one_account_attacked_a_hundred_thousand_times_is_one_notification(db: psycopg.Connection[Row]) -> None:
    keys = admins(db)
    stage_in_bulk(db, ["ada"], times=100_000, step_s=0.005)
    started = time.monotonic()
    run_until_done(8.4)
    print(f"100,000 failures of one account counted in {time.monotonic() - started:.1f} s")
    fan_out_pending()
    assert windows(db) == [(TENANT, "ada", 0, 100_000)]
    settle(9.5)
    (row,) = directory.notifications(db, keys["dean"])
    assert (row["metadata"]["failures"], row["metadata"]["addressCount"], row["seq"]) == (100_000, 100, 2)
    assert (len(row["metadata"]["addresses"]), directory.count(db, "failed_logins")) == (10, 0)


@pytest.mark.usefixtures("beat", "worker")
async def test_the_third_is_told_within_fifteen_seconds_by_the_clock_and_the_workers(
    db: psycopg.Connection[Row], api_server: ApiServer, configured: dict[str, str]
) -> None:
    """Pins the whole way: HTTP, the urgent lane, the job of beat in maintenance, the urgent lane again, the stream."""
    admins(db)
    headers = {**bearer(make_key()), "content-type": BATCHED}
    failures = [envelope(f"f{number}", type="auth.login_failed", data={"account_id": "ada"}) for number in range(3)]
    async with (
        Listener(api_server.url, token_for(configured, "dean", tenant=TENANT)) as dean,
        Listener(api_server.url, token_for(configured, "root", tenant="platform")) as root,
        httpx.AsyncClient(base_url=api_server.url) as producer,
    ):
        for stream in (dean, root):
            await stream.count(1)
        answer = await producer.post("/api/events", json=failures, headers=headers)
        assert answer.status_code == 202
        for stream in (dean, root):
            _, told_first = await stream.count(2, within=WITHIN_S)
            assert (told_first.kind, told_first.data["notification"]["metadata"]["failures"]) == ("created", 3)
