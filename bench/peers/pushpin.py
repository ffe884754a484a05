"""pushpin: a proxy that holds the streams for an application, and is published to over ZeroMQ."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bench.peers.load import FailedError
from bench.peers.nginx import grip
from bench.peers.servers import Place, Server, running
from shared.embedded import free_port

JOINED_S, PROBE_S = 30.0, 1.0
#: Answered requests in a row after which all of its processes are together.
PROBES = 5
MARK = b"event: connected"
#: What Debian's package has, as an instance of its own, and with these changes: no limit to messages a second (with
#: any `message_rate` above 0, whose default is 2,500, messages of 500/s and more wait until no other comes), no log of
#: each request and message, smaller buffers for the streams.
_CONFIGURATION = """
[global]
include={{libdir}}/internal.conf
rundir={folder}/run
ipc_prefix=bench-
port_offset=0
stats_connection_ttl=120

[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:{port}
logdir={folder}/log
log_level=0
client_buffer_size=4096
client_maxconn=20000
condure_bin=condure
zurl_bin=zurl

[proxy]
zurl_out_specs=ipc://{{rundir}}/{{ipc_prefix}}zurl-in
zurl_out_stream_specs=ipc://{{rundir}}/{{ipc_prefix}}zurl-in-stream
zurl_in_specs=ipc://{{rundir}}/{{ipc_prefix}}zurl-out
routesfile=routes
sig_key=
updates_check=off

[handler]
push_in_spec=tcp://127.0.0.1:{publish_port}
command_spec=ipc://{{rundir}}/{{ipc_prefix}}command
message_rate=0
message_hwm=1000000
"""


@contextmanager
def pushpin(place: Place) -> Iterator[Server]:
    """Start pushpin with all its processes on the server's core, and its application on the other."""
    port, publish_port, folder = free_port(), free_port(), place.folder / "pushpin"
    for part in ("run", "log"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    configuration = folder / "pushpin.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port, publish_port=publish_port))
    with grip(place) as application:
        (folder / "routes").write_text(f"* 127.0.0.1:{application.port}\n")
        with running(place, port, ["pushpin", f"--config={configuration}"]) as server:
            _wait_until_joined(port)
            yield Server(server.port, server.process, publish_port)


def _wait_until_joined(port: int) -> None:
    """Return once requests are answered: its processes listen before all of them hear each other."""
    deadline = time.monotonic() + JOINED_S
    while not all(_answers(port) for _ in range(PROBES)):
        if time.monotonic() > deadline:
            raise FailedError(f"pushpin did not answer within {JOINED_S} s.")


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), PROBE_S) as probe, suppress(TimeoutError):
        probe.sendall(b"GET /probe HTTP/1.1\r\nHost: bench\r\n\r\n")
        told = b""
        while MARK not in told and (more := probe.recv(4_096)):
            told += more
        return MARK in told
    return False
