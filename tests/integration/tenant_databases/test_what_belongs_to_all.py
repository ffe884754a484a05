"""What is one over all databases: readiness, the epoch, what the audit logs tell together."""

from __future__ import annotations

import httpx

from shared import audit, databases
from shared.databases import SHARED
from shared.keys import prefix_of
from shared.plans import run_plan
from tests.producers import bearer, post
from tests.universities import NORTH, SOUTH, Split, issued


async def test_the_server_is_ready_only_with_every_database(
    api: httpx.AsyncClient, split: Split, urls: dict[str, str]
) -> None:
    assert (await api.get("/readyz")).status_code == 200
    split.sessions[SOUTH].execute("UPDATE alembic_version SET version_num = '0004'")
    answer = await api.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, "migrations")


def test_the_epoch_is_one_number_over_all_databases(split: Split) -> None:
    from shared.cli.events import renew

    split.sessions[SOUTH].execute("UPDATE deployment SET epoch = 9999999999")
    renew()
    epochs = {split.rows(name, "SELECT epoch FROM deployment")[0][0] for name in databases.names()}
    assert epochs == {10_000_000_000}


async def test_what_is_done_in_a_tenants_database_is_told_in_its_audit_log_and_the_rest_in_the_shared_one(
    api: httpx.AsyncClient, key: str, split: Split
) -> None:
    await post(api, key, issued("e1"))
    cancelled = await api.delete(f"/api/events/e1?source=/tests&tenant={NORTH}", headers=bearer(key))
    deleted = [await api.delete(f"/api/recipients/{NORTH}/{who}", headers=bearer(key)) for who in ("ben", "grace")]
    assert [answer.status_code for answer in (cancelled, *deleted)] == [202, 204, 204]
    imported = await api.post("/api/recipients/bulk", json=[{"tenant": NORTH, "id": "dan"}], headers=bearer(key))
    assert imported.json()["created"] == 1
    query = "SELECT action, tenant, subject FROM audit_log ORDER BY key"
    prefix = prefix_of(key)
    assert {name: split.rows(name, query) for name in databases.names()} == {
        SHARED: [
            ("tenant.created", NORTH, None),
            ("tenant.created", SOUTH, None),
            ("key.created", None, prefix),
            ("recipient.deleted", NORTH, "grace"),
            ("directory.imported", None, "/api/recipients/bulk"),
        ],
        NORTH: [
            ("tenant.created", NORTH, None),
            ("event.cancelled", NORTH, "e1"),
            ("recipient.deleted", NORTH, "ben"),
        ],
        SOUTH: [("tenant.created", SOUTH, None)],
    }
    newest = [row["action"] for row in run_plan(audit.read_everywhere(3600, 4))]
    assert newest == ["directory.imported", "recipient.deleted", "recipient.deleted", "event.cancelled"]
