"""schemathesis over a running server: every call of the description but the endless stream; all checks and phases."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest

from shared import db as database
from shared import signing
from shared.settings import PROJECT_ROOT
from shared.tokens import make_token
from tests import directory, inboxes
from tests.directory import Row
from tests.eventually import eventually
from tests.producers import make_key
from tests.servers import ApiServer, Beat, Worker, base_environment

#: The tenant that hooks.py writes into events.
TENANT, WHO = "acme", "ada"
#: Cases for each call and phase. `make schemathesis` takes more of them than `make test`, which has two minutes.
EXAMPLES = int(os.environ.get("CARILLON_SCHEMATHESIS_EXAMPLES", "5"))
#: From so many on, events of every type are posted; otherwise of two.
THOROUGH = 20
#: A bound for a machine that has much else to do.
TIMEOUT_S = 900 if EXAMPLES < THOROUGH else 3 * 3600

CONFIG = """
hooks = "tests.contract.hooks"
seed = {seed}
base-url = "{url}"
continue-on-failure = true
suppress-health-check = ["all"]

[auth.openapi]
subscriberToken = {{ bearer = "{token}" }}
producerKey = {{ bearer = "{key}" }}

[generation]
max-examples = {examples}
codec = "latin-1"
allow-x00 = false
database = "none"

[phases.stateful.generation]
max-examples = {scenarios}

[checks]
enabled = true
"""


@pytest.fixture
def secrets_of_webhooks(
    configured: dict[str, str], worker: Worker, beat: Beat, db: psycopg.Connection[Row]
) -> dict[str, str]:
    """A tenant with a recipient who has notifications, and the secrets of its webhooks."""
    directory.add_tenant(db, "uni-berlin")  # the one of the examples
    directory.add_recipients(db, TENANT, [WHO, "ben"], roles=["student"], topics=["course:c1"])
    for type, data in inboxes.DATA.items():
        directory.add_event(db, type, data, tenant=TENANT)
    eventually(lambda: directory.count(db, "notifications") == len(inboxes.DATA), within=120.0)
    with database.transaction("*") as connection:
        _, github = signing.create_secret(connection, "github", TENANT)
        _, standard = signing.create_secret(connection, "standard", TENANT)
    return {
        "CONTRACT_GITHUB_SECRET": github,
        "CONTRACT_STANDARD_SECRET": standard,
        "CONTRACT_EVENT_TYPES": "certificate.issued system.announcement" if EXAMPLES < THOROUGH else "",
    }


@pytest.mark.timeout(TIMEOUT_S + 60)
def test_the_running_server_does_what_its_description_says(
    secrets_of_webhooks: dict[str, str],
    new_api_server: Callable[..., ApiServer],
    worker: Worker,
    beat: Beat,
    tmp_path: Path,
) -> None:
    limits = ("RECIPIENT_REQUESTS", "PRODUCER_REQUESTS", "FAILED_ATTEMPTS", "SIGN_INS")
    more = {f"CARILLON_{name}_PER_MINUTE": "1000000" for name in limits}
    server = new_api_server(CARILLON_LOG_LEVEL="warning", **more)
    eventually(lambda: httpx.get(f"{server.url}/readyz?full=1").status_code == 200, within=120.0)
    key = make_key(None, ["events:write", "directory:write", "ops:read"])
    config = tmp_path / "schemathesis.toml"
    seed = int(os.environ.get("CARILLON_SCHEMATHESIS_SEED", "1"))
    told = CONFIG.format(
        url=server.url,
        token=make_token(TENANT, WHO, ["student"]),
        key=key,
        examples=EXAMPLES,
        scenarios=10 * EXAMPLES,
        seed=seed,
    )
    config.write_text(told)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{server.url}/openapi.json"),
        *("--exclude-path", "/api/notifications/stream", "--exclude-path", "/api/notifications/subscribe"),
        *os.environ.get("CARILLON_SCHEMATHESIS_OPTIONS", "").split(),
    ]
    environment = {**base_environment(), **secrets_of_webhooks, "PYTHONPATH": f"{PROJECT_ROOT}", "NO_COLOR": "1"}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    print(done.stdout[-8000:])
    assert done.returncode == 0, done.stdout[-30_000:] + done.stderr[-2_000:]
    assert "Stateful" in done.stdout
    assert server.output.count("api.unexpected") == 0
