"""A TCP proxy that a test can cut: `context.setOffline` leaves an open stream alone."""

from __future__ import annotations

import contextlib
import socket
import threading

#: A listener that waits for longer is asked whether the proxy still runs.
TICK_S = 0.2


class Proxy:
    """Passes connections on to `port` until it is cut; `restore` takes new ones again. Runs in threads of its own."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = self._closed = self._silent = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TICK_S)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pumps: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        with self._lock:
            self._cut = True
        self._end_all()

    def silence(self) -> None:
        """Pass no byte on any more, without a word: a half-open connection. New connections hang as well."""
        self._silent = True

    def restore(self) -> None:
        """Pass everything on again; what was cut or silent stays dead."""
        self._cut = self._silent = False
        self._end_all()

    def close(self) -> None:
        """End everything, a connection that is just being made as well; no socket and no thread is left."""
        self._closed = True
        self._acceptor.join()
        self._listener.close()
        self._end_all()
        for pump in self._pumps:
            pump.join()

    def _end_all(self) -> None:
        with self._lock:
            ended, self._open = self._open, set()
        for each in ended:
            _end(each)

    def _accept(self) -> None:
        while not self._closed:
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        with self._lock:
            refused = self._cut
            self._open |= set() if refused else {client, server}
        if refused:
            _end(client)
            _end(server)
            return
        for source, target in ((client, server), (server, client)):
            pump = threading.Thread(target=self._pump, args=(source, target), daemon=True)
            self._pumps.append(pump)
            pump.start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(64 * 1024):
                if not self._silent:
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
