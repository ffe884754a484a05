"""A peer that is gone without a word is given up by the kernel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from api.stream import give_up_on_dead_peer


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_unacknowledged_bytes_end_the_connection_after_the_send_timeout(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def told() -> int:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", port)
        give_up_on_dead_peer(transport, 30.0)
        seconds = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        transport.abort()
        server.close()
        await server.wait_closed()
        return int(seconds)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(told()) == 30_000
