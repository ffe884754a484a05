"""What the connections to PostgreSQL are made with."""

from __future__ import annotations

import os
import socket

import pytest

from shared import db


def probes_of(descriptor: int) -> tuple[int, ...]:
    """Return whether a socket's peer is probed, after how many silent seconds, how often, and when it is given up."""
    with socket.socket(fileno=os.dup(descriptor)) as plain:
        return (
            plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        )


@pytest.mark.usefixtures("configured")
def test_a_worker_that_waits_for_an_answer_notices_a_server_that_vanished() -> None:
    """Without probes whoever waits for it then waits for two hours: nothing is sent that could stay unanswered."""
    with db.transaction() as connection:
        assert probes_of(connection.connection.driver_connection.fileno()) == (1, 10, 2, 5_000)  # type: ignore[union-attr]


@pytest.mark.usefixtures("configured")
async def test_so_does_the_api() -> None:
    try:
        async with db.async_transaction() as connection:
            raw = await connection.get_raw_connection()
            assert probes_of(raw.driver_connection.fileno()) == (1, 10, 2, 5_000)  # type: ignore[union-attr]
    finally:
        await db.close_async_engines()
