"""The test notification: through the real way, to the caller alone."""

from __future__ import annotations

import httpx
import psycopg
import pytest

from shared.tokens import make_token
from tests.servers import ApiServer, Worker


@pytest.fixture
def bearer(configured: dict[str, str]) -> dict[str, str]:
    with psycopg.connect(configured["CARILLON_DATABASE_URL"], autocommit=True) as connection:
        connection.execute("INSERT INTO tenants (id) VALUES ('uni')")
    return {"authorization": f"Bearer {make_token('uni', 'ada')}"}


def test_it_goes_the_whole_way_and_says_so(bearer: dict[str, str], api_server: ApiServer, worker: Worker) -> None:
    with httpx.stream("GET", f"{api_server.url}/api/notifications/stream", headers=bearer) as stream:
        lines = stream.iter_lines()
        assert "event: connected" in (next(lines), next(lines), next(lines))
        told = httpx.post(f"{api_server.url}/api/test/notifications", headers=bearer, timeout=20).json()
        assert (told["state"], told["notifications"], told["activeConnections"]) == ("done", 1, 1)
        assert told["pushConfirmed"] is True
        frame = next(line for line in lines if line.startswith("data: ") and '"created"' in line)
        assert "Test Notification" in frame


def test_without_a_worker_nothing_is_confirmed(bearer: dict[str, str], api_server: ApiServer) -> None:
    told = httpx.post(f"{api_server.url}/api/test/notifications", headers=bearer, timeout=20).json()
    assert (told["state"], told["pushConfirmed"], told["activeConnections"]) == ("accepted", False, 0)


def test_a_tenant_that_nobody_knows_is_404(bearer: dict[str, str], api_server: ApiServer) -> None:
    foreign = {"authorization": f"Bearer {make_token('nowhere', 'ada')}"}
    answer = httpx.post(f"{api_server.url}/api/test/notifications", headers=foreign)
    assert (answer.status_code, answer.json()["detail"]) == (404, "The directory does not know your tenant.")
