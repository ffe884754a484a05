"""The law (I6): a page fetched at any time, and what is told after it, are a page fetched fresh.

`CARILLON_LAW_EXAMPLES=5000` looks further than a run of all tests has time for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from shared.catalog import Catalog, catalog
from tests import directory
from tests.law.device import REPAIRED
from tests.law.events import TENANT
from tests.law.inbox import CAP, CHUNK_SIZE, MAX_CHANGES, World
from tests.law.machine import Law
from tests.law.wire import Caller
from tests.producers import make_key
from tests.servers import ApiServer

EXAMPLES = int(os.environ.get("CARILLON_LAW_EXAMPLES", "500"))
STEPS = 15
#: Repairs would hide that frames get lost. A publish may be given up on a machine that is stopped for half a second.
REPAIRS_SHARE = 0.001
#: What so many examples make streams tell: whoever changes the machine sees what it no longer reaches.
ENOUGH = 500
TOLD = {
    *("connected", "snapshot", "synced", "reset", "changed", "created", "read", "unread", "seen", "archived"),
    *("unarchived", "read_all", "seen_all", "deleted_read", "user", "expired", "capped", "withdrawn", "updated"),
}
#: An example takes a fifth of a second on a quiet machine. One that fails is made small, which takes some hundred more.
TIMEOUT_S = 300 + EXAMPLES * 2


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    """Bounds so small that examples reach them."""
    return {
        **settings_env,
        "CARILLON_INBOX_CAP": str(CAP),
        "CARILLON_CHUNK_SIZE": str(CHUNK_SIZE),
        "CARILLON_REPLAY_MAX_CHANGES": str(MAX_CHANGES),
        "CARILLON_STREAMS_PER_RECIPIENT": "100",
        # One recipient stands for many people here.
        "CARILLON_RECIPIENT_REQUESTS_PER_MINUTE": "1000000",
        # A line for each of 50,000 calls tells nothing; a connection may rest while others are used.
        "UVICORN_LOG_LEVEL": "warning",
        "UVICORN_TIMEOUT_KEEP_ALIVE": "600",
    }


@pytest.fixture
def world(configured: dict[str, str], new_api_server: Callable[[], ApiServer]) -> Iterator[World]:
    urls = [new_api_server().url for _ in range(2)]
    with directory.connect(configured["CARILLON_DATABASE_URL"]) as database:
        caller = Caller(urls)
        yield World(urls, configured, database, caller, make_key([TENANT]))
        caller.close()


@pytest.fixture
def short_lived(configured: dict[str, str]) -> Iterator[None]:
    """Let tests expire at once, of all types: the shortest life in the catalog is a day."""
    kinds = catalog().types
    expiring = {**kinds, "system.test": replace(kinds["system.test"], time_to_live=timedelta(0))}
    with patch("workers.prepare.catalog", lambda: Catalog(expiring)):
        yield


@pytest.mark.timeout(TIMEOUT_S)
def test_a_page_and_what_is_told_after_it_are_a_fresh_page(world: World, short_lived: None) -> None:
    profile = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        report_multiple_bugs=False,
        print_blob=True,
        # Explaining which arguments matter runs a failing example hundreds of times more.
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    Law.world = world
    run_state_machine_as_test(Law, settings=profile)
    print(Law.counts, world.heard)
    assert Law.counts["examples"] >= EXAMPLES
    assert world.heard[REPAIRED] <= Law.counts["steps"] * REPAIRS_SHARE
    if EXAMPLES >= ENOUGH:
        assert world.heard.keys() >= TOLD
