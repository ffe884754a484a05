"""One API process for all attacks; its limits are out of the way, those have a process of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.attacks.harness import APP, Target, targeted
from tests.edge import new_database, running_edge


@pytest.fixture(scope="session")
def target(
    postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """What is attacked."""
    folder = tmp_path_factory.mktemp("attacks")
    with (
        new_database(postgres) as url,
        running_edge(
            url, shared_redis.url(), folder, CARILLON_ALLOWED_ORIGINS=APP, CARILLON_SIGN_INS_PER_MINUTE="100000",
        ) as edge,
        targeted(edge) as made,
    ):  # fmt: skip
        yield made
