"""The examples run as they are documented, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shared.settings import PROJECT_ROOT
from tests.producers import make_key
from tests.servers import ApiServer

FIRST = """\
imported: 2 new, 0 known, 0 rejected
first time: accepted
again: duplicate
refused: data.badge_title is required, data.certificate_id is required
state: accepted
batch: 10 accepted, 0 posted before
"""
AGAIN = FIRST.replace("2 new, 0 known", "0 new, 2 known").replace("first time: accepted", "first time: duplicate")


@pytest.mark.usefixtures("configured")
def test_the_producer_posts_and_again_posts_nothing_new(api_server: ApiServer) -> None:
    key = make_key(["uni-berlin"], ["events:write", "directory:write"])
    environment = {**os.environ, "CARILLON_KEY": key, "PYTHONPATH": str(PROJECT_ROOT / "clients" / "python")}
    command = [sys.executable, str(PROJECT_ROOT / "examples" / "producer.py"), api_server.url]
    told = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
        for _ in range(2)
    ]
    assert told == [FIRST, AGAIN.replace("10 accepted, 0 posted", "0 accepted, 10 posted")]
