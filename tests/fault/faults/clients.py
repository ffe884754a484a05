"""Clients that misbehave, that do not read or come back all the time; and the way to them."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from uuid import uuid4

from tests.fault.http import Refused, open_stream
from tests.fault.proxy import LOOPBACK
from tests.fault.trial import Fault, Trial

#: A reader that takes nothing is closed after 5 s here. It begins to read after the first of these, and must have come
#: to an end by the second: what is in the kernel's buffers takes a moment.
SILENT_S = 8.0
CLOSED_S = 15.0
#: Streams that do not read, and what is sent to each: more than all buffers on the way hold.
SILENT = 4
FLOOD = 400
RECEIVE_BUFFER = 4096
READ_BYTES = 65536
#: Shorter and longer than two heartbeats.
BROKEN_S = (1.0, 6.0)
COMEBACKS = 50
COMEBACKS_S = 3.0
CONNECTED_S = 5.0


def stops_reading(trial: Trial) -> None:
    """Open streams that read nothing of a flood, until the server has closed each of them."""
    recipient = trial.random.randrange(trial.load.people)
    port = trial.random.choice(trial.cluster.apis).port
    sockets = [silent_stream(port, trial.load.tokens[recipient]) for _ in range(SILENT)]
    trial.notes["opened to read nothing"] += SILENT
    for _ in range(4):
        trial.load.post([recipient] * (FLOOD // 4), badge_title="x" * 490)
    ends = time.monotonic() + CLOSED_S
    trial.hold(SILENT_S)
    for one in sockets:
        trial.notes["closed by the server"] += _is_closed(one, ends)


def silent_stream(port: int, token: str) -> socket.socket:
    """Return a stream's socket that nobody reads from; close it."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    plain.connect((LOOPBACK, port))
    head = f"GET /api/notifications/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    plain.sendall(head.encode())
    return plain


def _is_closed(plain: socket.socket, ends: float) -> bool:
    """Take what is still there; return whether it comes to an end in time."""
    with plain:
        while (left := ends - time.monotonic()) > 0:
            plain.settimeout(left)
            try:
                if not plain.recv(READ_BYTES):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
    return False


def silent_were_closed(trial: Trial) -> list[str]:
    """Tell of streams that took nothing and were left open."""
    left = trial.notes["opened to read nothing"] - trial.notes["closed by the server"]
    return [f"{left} streams that read nothing were left open"] if left else []


def comes_back_all_the_time(trial: Trial) -> None:
    """Have one client open its stream 50 times a second, each time in place of its own last one."""
    recipient = trial.random.randrange(trial.load.people)
    trial.notes.update(trial.cluster.loop.run(_come_back(trial, recipient)))


async def _come_back(trial: Trial, recipient: int) -> dict[str, int]:
    client, told = uuid4(), {"came back": 0, "comeback refused": 0}
    ports = trial.load.ports
    tasks = set()

    async def once(number: int) -> None:
        try:
            token, port = trial.load.tokens[recipient], ports[number % len(ports)]
            reader, writer = await open_stream(port, token, f"client={client}", {}, CONNECTED_S)
            with suppress(asyncio.IncompleteReadError, OSError):
                await reader.readuntil(b"\n\n")
            writer.transport.abort()
            told["came back"] += 1
        except (Refused, OSError, asyncio.IncompleteReadError):
            told["comeback refused"] += 1

    for number in range(int(COMEBACKS * COMEBACKS_S)):
        tasks.add(asyncio.create_task(once(number)))
        await asyncio.sleep(1 / COMEBACKS)
    await asyncio.gather(*tasks)
    return told


def way_broken(trial: Trial) -> None:
    """Cut the way to one API process, let bytes vanish on it, or tell the server that every client is done sending."""
    proxy, loop = trial.random.choice(trial.cluster.api_proxies), trial.cluster.loop
    kind = trial.random.choice(("cut", "silent", "half-closed"))
    trial.notes[kind] += 1
    loop.run({"cut": proxy.cut, "silent": proxy.swallow, "half-closed": proxy.half_close}[kind]())
    trial.hold(*BROKEN_S)
    loop.run(proxy.heal())


FAULTS = [
    Fault(name="way between clients and an API process cut, silent or half-closed", inject=way_broken),
    Fault(name="clients that stop reading", inject=stops_reading, finish=silent_were_closed),
    Fault(name="client that comes back 50 times a second", inject=comes_back_all_the_time),
]
