"""The examples run as they are documented, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shared import db, directory
from shared.settings import PROJECT_ROOT
from tests.outboxes import dumped, make, relay_once, setting
from tests.producers import make_key, rows
from tests.servers import ApiServer

FIRST = """\
imported: 2 new, 0 known, 0 rejected
first time: accepted
again: duplicate
refused: data.badge_title is required, data.certificate_id is required
state: accepted
batch: 10 accepted, 0 posted before
"""
OUTBOX = """\
c-101: accepted
c-102: accepted
c-103: accepted
2 certificates, each with its event
"""
AGAIN = FIRST.replace("2 new, 0 known", "0 new, 2 known").replace("first time: accepted", "first time: duplicate")


@pytest.mark.usefixtures("configured")
def test_the_producer_posts_and_again_posts_nothing_new(api_server: ApiServer) -> None:
    key = make_key(["uni-berlin"], ["events:write", "directory:write"])
    environment = {**os.environ, "CARILLON_KEY": key}
    command = [sys.executable, str(PROJECT_ROOT / "examples" / "producer.py"), api_server.url]
    told = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
        for _ in range(2)
    ]
    assert told == [FIRST, AGAIN.replace("10 accepted, 0 posted", "0 accepted, 10 posted")]


def test_certificates_and_their_events_are_one_transaction(
    empty_database_url: str, settings_env: dict[str, str], request: pytest.FixtureRequest
) -> None:
    make(empty_database_url)
    settings_env["CARILLON_OUTBOXES"] = dumped(setting(empty_database_url, "uni-berlin"))
    request.getfixturevalue("configured")
    with db.transaction("uni-berlin") as connection:
        directory.ensure_tenant(connection, "uni-berlin")
    command = [sys.executable, str(PROJECT_ROOT / "examples" / "outbox.py"), empty_database_url]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout == OUTBOX
    assert relay_once().stored == [1, 2]
    stored = rows(settings_env["CARILLON_DATABASE_URL"], "SELECT id FROM events ORDER BY id")
    assert stored == [("issued-c-101",), ("issued-c-102",)]
