"""The proxy of the browser's tests leaves nothing behind: what it forgot would be blamed on whichever test ran next."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.proxy import Proxy
from tests.eventually import eventually


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[list[socket.socket], threading.Event, threading.Event]:
    """Connections to the server are made, and handed over once the last event is set; the first tells of one."""
    made: list[socket.socket] = []
    begun, released = threading.Event(), threading.Event()
    connect: Callable[..., socket.socket] = socket.create_connection

    def create_connection(*arguments: Any) -> socket.socket:
        made.append(connect(*arguments))
        begun.set()
        released.wait()
        return made[-1]

    monkeypatch.setattr("tests.browser.proxy.socket.create_connection", create_connection)
    return made, begun, released


Slow = tuple[list[socket.socket], threading.Event, threading.Event]


@pytest.mark.parametrize("ending", ["close", "cut"])
def test_a_connection_that_is_made_while_the_proxy_ends_is_closed_with_it(
    server: socket.socket, slow: Slow, ending: str
) -> None:
    made, begun, released = slow
    proxy = Proxy(server.getsockname()[1])
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.connect((host, int(port)))
        assert begun.wait(30)
        ends = threading.Thread(target=getattr(proxy, ending))
        ends.start()
        released.set()
        ends.join()
        eventually(lambda: [each.fileno() for each in made] == [-1], within=30)
    proxy.close()
    assert not any(pump.is_alive() for pump in proxy._pumps)
