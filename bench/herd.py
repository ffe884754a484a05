"""A stop with all streams open, and their return at one moment: `python -m bench.herd [--streams 2000] [--missed 4]`.

The API has a core of its own (the first one); everything else, this client included, shares the second. Recipient n
misses n modulo `--missed` changes in between. Clients keep no time here: in the field `retryMs` spreads them. Ends with
an error where the stopped process was gone only after `GONE_S`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import uvloop

from bench.edge import OTHER_CORE, SERVER_CORE, START_S, servers
from shared.embedded import free_port
from shared.settings import PROJECT_ROOT
from tests.edge import environment_of
from tests.herd import Herd, Visit, change_meanwhile
from tests.listener import token_for
from tests.wire import Wire, counted
from tests.writer import Writer

PATIENCE_S = 300.0
POLL_S = 0.05
#: What the product promises of a stop with 2,000 streams, from the signal to the end of the process.
GONE_S = 5.0
CONNECTED, SYNCED = b"event: connected\n", b"event: synced\n"


@contextmanager
def api(environment: dict[str, str]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start an API process on its core as `carillon up` does; yields its port and itself once it is ready."""
    port = free_port()
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "uvicorn", "api.app:create_app", "--factory",
               f"--port={port}", "--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning",
               "--timeout-graceful-shutdown=5"]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=PROJECT_ROOT)
    try:
        deadline = time.monotonic() + START_S
        while not _is_ready(port):
            if time.monotonic() > deadline:
                raise SystemExit("The API did not start.")
            time.sleep(POLL_S)
        yield port, process
    finally:
        process.kill()
        process.wait()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def say(what: str, herd: Herd, began: float, cpu: float) -> None:
    """Print how long a herd waited, and what that cost the API."""
    waited = herd.seconds()
    p50, p99 = (waited[int(len(waited) * share)] for share in (0.5, 0.99))
    took = max(stream.told_at or 0.0 for stream in herd.streams) - began
    print(
        f"{what:8} {len(waited):6,} streams in {took:6.2f} s   p50 {p50:5.2f} s   p99 {p99:5.2f} s   "
        f"{1e6 * cpu / len(waited):6.0f} µs of the API's core for each"
    )


def tell(wire: Wire) -> None:
    """Print what PostgreSQL was asked."""
    read = wire.of("FROM deployment")
    print(f"         {sum(wire.statements.values()):6,} statements, {read:,} of them reads; "
          f"{wire.most} connections at most")  # fmt: skip


async def arrive(port: int, process: subprocess.Popen[bytes], visits: list[Visit], awaited: bytes, wire: Wire) -> Herd:
    """Open all streams at once, and print what that took."""
    wire.reset()
    loop, cpu = asyncio.get_running_loop(), _cpu(process)
    began = loop.time()
    herd = await Herd.open(port, visits, awaited, PATIENCE_S)
    say("open" if awaited is CONNECTED else "return", herd, began, _cpu(process) - cpu)
    tell(wire)
    return herd


def _cpu(process: subprocess.Popen[bytes]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


async def stop(process: subprocess.Popen[bytes], herd: Herd) -> float:
    """Stop the process and print how long goodbyes and exit took; returns the seconds until the exit."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    await herd.all(lambda stream: stream.closed, PATIENCE_S)
    said = time.monotonic() - began
    await asyncio.to_thread(process.wait, PATIENCE_S)
    gone = time.monotonic() - began
    told = [stream.frames[-1] for stream in herd.streams]
    waits = [frame.data["retryMs"] for frame in told if frame.event == "goodbye"]
    print(f"stop     {len(waits):6,} goodbyes in {said:5.2f} s   exit in {gone:5.2f} s   "
          f"to come back within {min(waits):,} to {max(waits):,} ms")  # fmt: skip
    return gone


async def measure(number: int, missed: int, wire: Wire, url: str, environment: dict[str, str]) -> float:
    """Open, stop, change, come back; returns the seconds that the stop took."""
    recipients = [f"r{place}" for place in range(number)]
    with Writer(url, environment["CARILLON_REDIS_URL"]) as writer:
        writer.register(*recipients)
    tokens = [token_for(environment, recipient) for recipient in recipients]
    with api(environment) as (port, process):
        herd = await arrive(port, process, [Visit(token) for token in tokens], CONNECTED, wire)
        cursors = [stream.frames[0].id for stream in herd.streams]
        gone = await stop(process, herd)
    change_meanwhile(url, missed)
    with api(environment) as (port, process):
        visits = [Visit(token, cursor) for token, cursor in zip(tokens, cursors, strict=True)]
        herd = await arrive(port, process, visits, SYNCED, wire)
        told = sum(frame.event == "notification" for stream in herd.streams for frame in stream.frames)
        print(f"         {told:6,} missed changes told, {sum(place % missed for place in range(number)):,} were made")
        herd.close()
    return gone


def main() -> None:
    """Start the servers, measure, print, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--missed", type=int, default=4)
    options = parser.parse_args()
    os.sched_setaffinity(0, {OTHER_CORE})
    with (
        tempfile.TemporaryDirectory(prefix="carillon-bench-") as name,
        servers(Path(name)) as (url, redis_url),
        counted(url) as wire,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        environment = environment_of(wire.url, redis_url, Path(name))
        gone = runner.run(measure(options.streams, options.missed, wire, url, environment))
    if gone > GONE_S:
        raise SystemExit(f"The stop took {gone:.2f} s, more than {GONE_S:.0f} s.")


if __name__ == "__main__":
    main()
