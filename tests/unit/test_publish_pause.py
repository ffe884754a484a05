from __future__ import annotations

from types import SimpleNamespace

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from structlog.testing import capture_logs

from shared.embedded import free_port
from workers import publish


def test_a_redis_that_fails_again_and_again_is_left_alone_for_longer_up_to_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pins what a stopped Redis costs a worker: a second's timeout in six, not in two."""
    away = Redis(port=free_port(), retry=Retry(NoBackoff(), 0))
    link = publish._Link(lambda: away)
    now = 100.0
    monkeypatch.setattr(publish, "_link", lambda: link)
    monkeypatch.setattr(publish, "time", SimpleNamespace(monotonic=lambda: now, time=lambda: now))
    tried = []
    with capture_logs() as told:
        for second in range(20):
            now = 100.0 + second
            assert list(publish.publish([("channel", b"frame")])) == []
            if told[-1]["reason"] != "paused":
                tried.append(second)
    assert tried == [0, 1, 3, 7, 12, 17]
