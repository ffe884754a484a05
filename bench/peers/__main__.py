"""The edge and its peers in one run: `make bench-peers`, or `python -m bench.peers [--quick] [--runs 5] [--only …]`.

Each server in turn has the first core for itself; the load, Redis and PostgreSQL share the second. With `--write` the
medians go into docs/performance.md, and everything measured into bench/results/edge.json.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.peers import measures, ours, report
from bench.peers.load import compiled, load
from bench.peers.measures import FULL, QUICK, Effort, Figures
from bench.peers.servers import EVERYBODY, PEERS, Peer, Place
from shared.embedded import EmbeddedRedis

SERVER_CORE, OTHER_CORE = 0, 1
STREAMS = 5_000
IDLE_STREAMS = 10_000
#: Of all streams so many are opened anew, and so many read nothing, while the others' latency is measured.
SPARED, SLOW, CHURN_PER_S = 1_000, 1, 200

OURS, IDLE = "carillon", "carillon-idle"


def of_peer(peer: Peer, place: Place, generator: Path, effort: Effort) -> Figures:
    """Measure a peer: streams of their own channels first, then as many of one channel."""
    told: Figures = {}
    with peer.start(place) as server:
        streams = peer.streams(server.port, [f"s{number}" for number in range(STREAMS)])
        with load(generator, streams, peer.publishing(server, place)) as many:
            told |= measures.opening(many, server)
            told |= measures.idle(server, effort.idle_s)
            told |= measures.unicast(many, peer.guess, effort)
            told |= measures.disturbed(many, SPARED, CHURN_PER_S, SLOW)
    with peer.start(place) as server:
        streams = peer.streams(server.port, [EVERYBODY] * STREAMS)
        with load(generator, streams, peer.publishing(server, place)) as many:
            measures.opening(many, server)
            told |= measures.broadcast(many, effort, peer.target(EVERYBODY), 0)
    return told


def of_ours(database: str, place: Place, generator: Path, effort: Effort) -> Figures:
    """Measure the product: an announcement has each recipient's own numbers; identical frames are told beside it."""
    told: Figures = {}
    with ours.edge(place, database) as edge, load(generator, edge.streams(STREAMS), edge.publishing) as many:
        told |= measures.opening(many, edge.server)
        told |= measures.idle(edge.server, effort.idle_s)
        told |= measures.unicast(many, 50_000, effort)
        told |= measures.broadcast(many, effort, ours.announcement_channel(), ours.CHUNK)
        told |= measures.disturbed(many, SPARED, CHURN_PER_S, SLOW)
    with (
        ours.edge(place, database, CARILLON_STREAMS_PER_RECIPIENT=str(ours.SHARING)) as edge,
        load(generator, edge.streams(STREAMS, ours.SHARING), edge.publishing) as many,
    ):
        measures.opening(many, edge.server)
        same = measures.broadcast(many, effort, "-", -1)
    return told | {f"identical_{name}": value for name, value in same.items()}


def of_idle(database: str, place: Place, generator: Path, effort: Effort) -> Figures:
    """Measure what twice as many streams cost while nothing happens but heartbeats."""
    del effort
    with ours.edge(place, database) as edge, load(generator, edge.streams(IDLE_STREAMS), edge.publishing) as many:
        told = measures.opening(many, edge.server)
        # A heartbeat's interval, so that each stream gets one.
        return told | measures.idle(edge.server, FULL.idle_s)


def measured(database: str, place: Place, generator: Path) -> dict[str, Callable[[Effort], Figures]]:
    """Return what measures each server, by its name."""
    table: dict[str, Callable[[Effort], Figures]] = {
        peer.name: partial(of_peer, peer, place, generator) for peer in PEERS
    }
    table[OURS] = partial(of_ours, database, place, generator)
    table[IDLE] = partial(of_idle, database, place, generator)
    return table


def run(options: argparse.Namespace, folder: Path) -> report.Results:
    """Measure every chosen server in turn, as often as asked; prints each as it comes."""
    effort = QUICK if options.quick else FULL
    results: report.Results = {}
    redis = EmbeddedRedis(folder / "redis", fast=True)
    redis.start()
    try:
        with ours.postgres(folder, IDLE_STREAMS) as database:
            table = measured(database, Place(folder, redis, SERVER_CORE), compiled(folder, "load"))
            for number in range(options.runs):
                for name in options.only or table:
                    told = table[name](effort)
                    results.setdefault(name, []).append(told)
                    print(number + 1, name, *(f"{key}={value:,.1f}" for key, value in told.items()), flush=True)
    finally:
        redis.stop()
    return results


def main() -> None:
    """Measure, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="shorter trials: for ratios, not for idle costs")
    parser.add_argument("--only", nargs="+", choices=[*(peer.name for peer in PEERS), OURS, IDLE])
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and bench/results/edge.json")
    options = parser.parse_args()
    os.sched_setaffinity(0, {OTHER_CORE})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as name:
        results = run(options, Path(name))
    text = report.text(results)
    print(text)
    if options.write:
        report.write(results, text)


if __name__ == "__main__":
    main()
