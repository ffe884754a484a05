"""Behind a pooler of transactions: nothing is asked of a session, and every transaction says its bounds itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api import listen
from shared import databases, db
from shared.roles import APP, Scope, begin
from shared.settings import Settings, load_settings

DIRECT = "postgresql://u:p@direct/carillon"
NORTH = "postgresql://u:p@north/carillon"


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings of two databases; afterwards what was derived of them is forgotten."""
    monkeypatch.setenv("CARILLON_DATABASE_URL", "postgresql://u:p@pooler:6432/carillon")
    monkeypatch.setenv("CARILLON_TENANT_DATABASES", f'{{"uni-north": "{NORTH}"}}')
    databases.placement.cache_clear()
    yield monkeypatch
    databases.placement.cache_clear()


def _use(chosen: pytest.MonkeyPatch, **given: object) -> Settings:
    made = load_settings(**given)
    for module in (db, listen, databases):
        chosen.setattr(module, "settings", lambda: made)
    return made


def test_a_direct_connection_asks_its_session_for_the_bounds(chosen: pytest.MonkeyPatch) -> None:
    _use(chosen)
    options = db._engine_options("api", 1)
    assert "-c lock_timeout=2000" in options["connect_args"]["options"]
    assert options["bounds"] == ()
    assert "prepare_threshold" not in options["connect_args"]


def test_a_pooled_one_asks_nothing_of_its_session_and_prepares_nothing(chosen: pytest.MonkeyPatch) -> None:
    _use(chosen, database_pooled=True)
    options = db._engine_options("worker", 1)
    assert "options" not in options["connect_args"]
    assert options["connect_args"]["prepare_threshold"] is None
    assert options["bounds"] == db.bounds_of("worker")


def test_a_pooled_transaction_begins_with_its_bounds_which_end_with_it(chosen: pytest.MonkeyPatch) -> None:
    first = begin(APP, Scope(("uni-north",)), db.bounds_of("api"))
    assert first.split("; ") == [
        "BEGIN",
        "SET LOCAL idle_in_transaction_session_timeout = '5000'",
        "SET LOCAL lock_timeout = '2000'",
        "SET LOCAL statement_timeout = '5000'",
        "SET LOCAL jit = 'off'",
        "SET LOCAL timezone = 'UTC'",
        "SET LOCAL ROLE carillon_app",
        """SET LOCAL app.tenants = '{"uni-north"}'""",
    ]


def test_a_scope_is_spelled_so_that_no_setting_of_a_session_changes_its_meaning() -> None:
    assert begin(APP, Scope(("it's",))).endswith("""SET LOCAL app.tenants = '{"it''s"}'""")
    # One backslash: doubled within the array, and each of these within the literal.
    assert begin(APP, Scope(("a\\b",))).endswith(r"""SET LOCAL app.tenants = E'{"a\\\\b"}'""")


def test_without_a_pooler_every_database_is_listened_to(chosen: pytest.MonkeyPatch) -> None:
    made = _use(chosen)
    assert made.database_url is not None
    assert listen.addresses() == {"shared": made.database_url.get_secret_value(), "uni-north": NORTH}


def test_behind_a_pooler_only_addresses_past_it_are_listened_to(chosen: pytest.MonkeyPatch) -> None:
    _use(chosen, database_pooled=True)
    assert listen.addresses() == {}
    _use(chosen, database_pooled=True, listen_databases={"shared": DIRECT})
    assert listen.addresses() == {"shared": DIRECT}


def test_where_to_listen_may_be_told_of_the_shared_database_and_of_tenants_alone() -> None:
    assert load_settings(listen_databases=f'{{"shared": "{DIRECT}"}}').listen_databases.keys() == {"shared"}
    with pytest.raises(Exception, match="CARILLON_LISTEN_DATABASES"):
        load_settings(listen_databases=f'{{"platform": "{DIRECT}"}}')
    with pytest.raises(Exception, match="CARILLON_TENANT_DATABASES"):
        load_settings(tenant_databases=f'{{"shared": "{DIRECT}"}}')
