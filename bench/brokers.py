"""Measure the throughput of one Redis for all, of RabbitMQ as the broker, and of a Redis Cluster for the streams.

`python -m bench.brokers [--events 5000] [--rounds 2] [--write]`: the same load for each, from the batch endpoint
to the stored notification and its frame on the stream, and announcements to many open streams. Everything shares this
machine's cores, the measuring process included. Needs Debian's `rabbitmq-server` and `redis-server`.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import orjson

from bench import report
from bench.end_to_end import STREAMS, TENANT, prepare
from bench.product import Product, running
from bench.wire import Poster
from shared.embedded import EmbeddedRedis
from shared.settings import PROJECT_ROOT
from shared.tokens import make_token
from tests.deploy.servers import RabbitMQ, RedisServers

DOCUMENT = PROJECT_ROOT / "docs" / "deployment.md"
NAME = CROWD = "brokers"
BATCH = 100
#: Requests under way at once: enough that the API never waits for the measuring process.
POSTERS = 8
WARM_UP = 500
#: Open streams that each announcement goes to.
LISTENERS = 250
ANNOUNCEMENTS = 40
WITHIN_S = 120.0
FRAME = b"event: notification\n"


class Counted(asyncio.Protocol):
    """A stream of which only the notifications are counted: whoever measures takes as little of the cores as it can."""

    def __init__(self, request: bytes, told: Counter) -> None:
        self._request, self._told, self._rest = request, told, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        text = self._rest + data
        if b"event: connected\n" in text:
            self._told.opened += 1
        self._told.add(text.count(FRAME))
        # What may be the beginning of the line that is counted; the whole line never is, or it would count twice.
        self._rest = text[text.rfind(b"\n") + 1 :]


class Counter:
    """How many streams are open and how many frames came on all of them; and when the last of those waited for did."""

    def __init__(self) -> None:
        self.opened = 0
        self._frames = 0
        self._awaited = 0
        self._came = asyncio.Event()
        self._last = 0.0

    def expect(self, frames: int) -> None:
        """Begin to wait for so many more."""
        self._frames, self._awaited = 0, frames
        self._came.clear()

    def add(self, frames: int) -> None:
        """Count some that came."""
        self._frames += frames
        if frames and self._frames >= self._awaited:
            self._last = time.perf_counter()
            self._came.set()

    async def came(self) -> float:
        """Return when the last came (`time.perf_counter`). Ends the measurement when it does not."""
        try:
            await asyncio.wait_for(self._came.wait(), WITHIN_S)
        except TimeoutError:
            raise SystemExit(f"{self._frames} of {self._awaited} frames came within {WITHIN_S} s.") from None
        if self._frames != self._awaited:
            raise SystemExit(f"{self._frames} frames came where {self._awaited} were due.")
        return self._last


class Load:
    """The measuring side of one product."""

    def __init__(self, product: Product, key: str) -> None:
        self._port = product.port
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents-batch+json"}
        self._posters = [Poster(product.port, "/api/events", headers) for _ in range(POSTERS)]
        self._streams: list[asyncio.BaseTransport] = []
        self._made = 0

    def close(self) -> None:
        """Cut all connections."""
        for poster in self._posters:
            poster.close()
        for stream in self._streams:
            stream.close()

    async def open(self, tenant: str, many: int) -> Counter:
        """Open a stream for each of a tenant's first people, and return their counter once all are connected."""
        told = Counter()
        for number in range(1, many + 1):
            token = make_token(tenant, f"p{number}")
            head = f"GET /api/notifications/stream HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            request = f"{head}Authorization: Bearer {token}\r\n\r\n".encode()
            made = await asyncio.get_running_loop().create_connection(
                partial(Counted, request, told), "127.0.0.1", self._port
            )
            self._streams.append(made[0])
        async with asyncio.timeout(WITHIN_S):
            while told.opened < many:
                await asyncio.sleep(0.05)
        return told

    async def events(self, told: Counter, many: int) -> float:
        """Post events to one person each; return how many a second were stored and told on the streams."""
        bodies = [
            self._event("certificate.issued", TENANT, student_id=f"p{number % STREAMS + 1}",
                        certificate_id=f"c{number}", badge_title="Rust")
            for number in range(many)
        ]  # fmt: skip
        return many / await self._took(told, bodies, BATCH, many)

    async def deliveries(self, told: Counter) -> float:
        """Post announcements to everybody; return how many frames a second reached the streams."""
        bodies = [
            self._event("system.announcement", CROWD, title="Exams", message="On Monday.", audience={"everyone": True})
            for _ in range(ANNOUNCEMENTS)
        ]
        frames = ANNOUNCEMENTS * LISTENERS
        return frames / await self._took(told, bodies, 1, frames)

    def _event(self, type: str, tenant: str, **data: object) -> dict[str, object]:
        self._made += 1
        return {"specversion": "1.0", "id": f"e{self._made}", "source": "/bench/brokers", "type": type,
                "tenant": tenant, "data": data}  # fmt: skip

    async def _took(self, told: Counter, events: Sequence[object], batch: int, frames: int) -> float:
        """Return the seconds from the first request to the last frame."""
        bodies = iter([orjson.dumps(events[at : at + batch]) for at in range(0, len(events), batch)])
        told.expect(frames)
        began = time.perf_counter()
        await asyncio.gather(*(self._post(poster, bodies) for poster in self._posters))
        return await told.came() - began

    @staticmethod
    async def _post(poster: Poster, bodies: Iterator[bytes]) -> None:
        for body in bodies:
            status, answer = await poster.post(body)
            if status != 202:
                raise SystemExit(f"{status}: {answer.decode()}")


@dataclass(frozen=True, slots=True)
class Throughput:
    """Medians of the rounds."""

    events_per_second: int
    deliveries_per_second: int


@contextmanager
def one_redis(_: Path) -> Iterator[dict[str, str]]:
    """Nothing beside what `carillon up` has: one Redis is broker and streams' server."""
    yield {}


@contextmanager
def rabbitmq(folder: Path) -> Iterator[dict[str, str]]:
    """RabbitMQ as the broker, of one server: its queues are quorum queues of one member."""
    made = RabbitMQ(folder / "rabbitmq")
    try:
        made.start()
        yield {"CARILLON_BROKER_URL": made.url()}
    finally:
        made.kill()


@contextmanager
def redis_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A cluster of three Redis servers for the streams, and one more as the broker."""
    cluster, broker = RedisServers(folder, secrets.token_urlsafe(24)), EmbeddedRedis(folder / "broker")
    with ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.start()
        stack.callback(broker.stop)
        broker.start()
        yield {**cluster.environment(), "CARILLON_BROKER_URL": broker.url(1), "CARILLON_RESULT_URL": broker.url(0)}


VARIANTS: dict[str, Callable[[Path], AbstractContextManager[dict[str, str]]]] = {
    "one Redis for all (the default)": one_redis,
    "RabbitMQ as the broker": rabbitmq,
    "Redis Cluster for the streams": redis_cluster,
}


async def _measure(product: Product, key: str, events: int, rounds: int) -> Throughput:
    load = Load(product, key)
    people, crowd = await load.open(TENANT, STREAMS), await load.open(CROWD, LISTENERS)
    await load.events(people, WARM_UP)
    stored = [await load.events(people, events) for _ in range(rounds)]
    pushed = [await load.deliveries(crowd) for _ in range(rounds)]
    load.close()
    return Throughput(round(statistics.median(stored)), round(statistics.median(pushed)))


def measure(variant: str, events: int, rounds: int) -> Throughput:
    """Start the product over a variant's servers, measure, and stop all."""
    with tempfile.TemporaryDirectory(prefix="carillon-brokers-") as folder:
        # The servers may run as another user than root, whose folder this is.
        Path(folder).chmod(0o755)
        with VARIANTS[variant](Path(folder)) as environment, running(None, **environment) as product:
            return asyncio.run(_measure(product, prepare({CROWD: LISTENERS}), events, rounds))


def table(measured: dict[str, Throughput]) -> str:
    """Return the table of all variants."""
    header = ("servers", "events/s, posted to stored and told", "frames/s of announcements")
    rows = [(name, f"{one.events_per_second:,}", f"{one.deliveries_per_second:,}") for name, one in measured.items()]
    return report.table(header, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000, help="events of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write the table into docs/deployment.md")
    options = parser.parse_args()
    # Each in a process of its own: settings and engines are kept for a process's life.
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        measured = {name: pool.apply(measure, (name, options.events, options.rounds)) for name in VARIANTS}
    print(table(measured))
    report.save(NAME, {"machine": report.machine(), **{name: asdict(one) for name, one in measured.items()}})
    if options.write:
        report.write(NAME, table(measured), DOCUMENT)


if __name__ == "__main__":
    main()
