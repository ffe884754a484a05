"""The edge and its peers in one run: `make bench-peers`, or `python -m bench.peers [--quick] [--runs 5] [--only …]`.

Each server in turn has the first core for itself; the load, Redis and PostgreSQL share the second. With `--write` the
medians go into docs/performance.md and docs/images/peers.svg, everything measured into bench/results/edge.json;
`--again` writes them once more from there, or from `.cache/bench-peers.json`, where every run leaves what it has
measured so far. With `--only` the lines that lack a server are left out, and the text says so. What the product is not
held to is measured in the first `--others` runs, what idle streams cost, and what reconnects do to a peer's, in the
first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil

from bench.ending import end_when_told
from bench.peers import measures, ours, report
from bench.peers.choice import PEERS
from bench.peers.load import FailedError, compiled, load
from bench.peers.measures import FULL, NEAR, QUICK, STEP, Effort, Figures
from bench.peers.servers import EVERYBODY, Peer, Place
from shared.embedded import EmbeddedRedis
from shared.settings import PROJECT_ROOT

SERVER_CORE, OTHER_CORE = 0, 1
STREAMS = 5_000
IDLE_STREAMS = 10_000
#: Of all streams so many are opened anew, and so many read nothing, while the others' latency is measured.
SPARED, SLOW, CHURN_PER_S = 1_000, 1, 200

OURS = "carillon"
#: Messages a second at which the search for the product's limit begins.
GUESS = 120_000
#: Runs of what the product is not held to.
OTHERS = 2


Measure = Callable[[Effort, float | None], Figures]


def of_peer(peer: Peer, place: Place, generator: Path, effort: Effort, known: float | None) -> Figures:
    """Measure a peer: streams of their own channels first, then as many of one channel."""
    told: Figures = {}
    with peer.start(place) as server:
        streams = peer.streams(server.port, [f"s{number}" for number in range(STREAMS)])
        with load(generator, streams, peer.publishing(server, place)) as many:
            told |= measures.opening(many, server, peer.at_once)
            if effort.once:
                told |= measures.idle(server)
            told |= measures.unicast(many, known or peer.guess, effort, NEAR if known else STEP)
            if effort.once:
                told |= measures.disturbed(many, SPARED, CHURN_PER_S, SLOW)
    with peer.start(place) as server:
        streams = peer.streams(server.port, [EVERYBODY] * STREAMS)
        with load(generator, streams, peer.publishing(server, place)) as many:
            measures.opening(many, server, peer.at_once)
            told |= measures.broadcast(many, effort, peer.target(EVERYBODY), 0)
    return told


def of_ours(database: str, place: Place, generator: Path, effort: Effort, known: float | None) -> Figures:
    """Measure the product: an announcement has each recipient's own numbers; identical frames are told beside it."""
    told: Figures = {}
    with ours.edge(place, database) as edge, load(generator, edge.streams(STREAMS), edge.publishing) as many:
        told |= measures.opening(many, edge.server)
        if effort.once:
            told |= measures.idle(edge.server)
        told |= measures.unicast(many, known or GUESS, effort, NEAR if known else STEP, whole=True)
        told |= measures.broadcast(many, effort, ours.announcement_channel(), ours.CHUNK)
        told |= measures.disturbed(many, SPARED, CHURN_PER_S, SLOW)
    with (
        ours.edge(place, database, CARILLON_STREAMS_PER_RECIPIENT=str(ours.SHARING)) as edge,
        load(generator, edge.streams(STREAMS, ours.SHARING), edge.publishing) as many,
    ):
        measures.opening(many, edge.server)
        same = measures.broadcast(many, effort, "-", -1)
    return told | {f"identical_{name}": value for name, value in same.items()}


def of_idle(database: str, place: Place, generator: Path, effort: Effort, known: float | None) -> Figures:
    """Measure what twice as many streams cost while nothing happens but heartbeats."""
    del effort, known
    with ours.edge(place, database) as edge, load(generator, edge.streams(IDLE_STREAMS), edge.publishing) as many:
        told = measures.opening(many, edge.server)
        return told | measures.idle(edge.server)


def measured(database: str, place: Place, generator: Path) -> dict[str, Measure]:
    """Return what measures each server, by its name."""
    table: dict[str, Measure] = {peer.name: partial(of_peer, peer, place, generator) for peer in PEERS}
    table[OURS] = partial(of_ours, database, place, generator)
    table[report.IDLE] = partial(of_idle, database, place, generator)
    return table


def plan(names: Sequence[str], runs: int, others: int) -> list[tuple[int, str]]:
    """Return what is measured in which run, each run's servers in turn: what the product is held to in all of them."""
    context = {peer.name for peer in PEERS if not peer.bound}
    return [
        (number, name) for number in range(1, runs + 1) for name in names if number <= others or name not in context
    ]


def _measure_all(options: argparse.Namespace, table: dict[str, Measure]) -> report.Results:
    """Measure by the plan; prints each server as it starts, with the time left, and its figures as they come.

    What was measured is kept after each of them (`report.KEPT`).
    """
    results: report.Results = {}
    steps, took = plan(options.only or list(table), options.runs, options.others), dict[str, float]()
    for step, (number, name) in enumerate(steps):
        # What was not measured yet counts as what was, on average.
        usual = sum(took.values()) / len(took) if took else 0.0
        left = sum(took.get(each, usual) for _, each in steps[step:]) / 60
        print(f"{time.strftime('%H:%M:%S')} run {number} of {options.runs}: {name}", end="", flush=True)
        print(f", about {left:.0f} min left" if took else "", flush=True)
        began, earlier = time.monotonic(), results.setdefault(name, [])
        effort = QUICK if options.quick else FULL
        effort = replace(effort, once=not earlier)
        try:
            earlier.append(table[name](effort, earlier[-1].get("unicast_per_s") if earlier else None))
            told = " ".join(f"{key}={value:,.1f}" for key, value in earlier[-1].items())
        except (FailedError, OSError, psutil.Error, subprocess.SubprocessError) as error:
            # The others' runs are not given up for one server's.
            told = f"failed, and is left out of this run: {type(error).__name__}: {error}"
        report.keep(_told({name: runs for name, runs in results.items() if runs}))
        took[name] = time.monotonic() - began
        print(f"  {took[name]:.0f} s {told}", flush=True)
    return {name: runs for name, runs in results.items() if runs}


def _told(results: report.Results) -> report.Told:
    return report.Told(f"python -m bench.peers {' '.join(sys.argv[1:])}", report.machine(), results)


def run(options: argparse.Namespace, folder: Path) -> report.Results:
    """Start what all servers share, and measure them."""
    redis = EmbeddedRedis(folder / "redis", fast=True)
    redis.start()
    try:
        with ours.postgres(folder, IDLE_STREAMS) as database:
            place = Place(folder, redis, SERVER_CORE, OTHER_CORE)
            return _measure_all(options, measured(database, place, compiled(folder, "load")))
    finally:
        redis.stop()


def _options() -> argparse.Namespace:
    names = [*(peer.name for peer in PEERS), OURS, report.IDLE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--others", type=int, default=OTHERS, help="runs of what the product is not held to")
    parser.add_argument("--quick", action="store_true", help="shorter trials, fewer announcements: for ratios")
    parser.add_argument("--only", nargs="+", choices=names, metavar="SERVER", help=", ".join(names))
    parser.add_argument("--write", action="store_true", help="write the documents and bench/results/edge.json")
    parser.add_argument(
        "--again", nargs="?", type=Path, const=report.WRITTEN, metavar="FILE",
        help=f"measure nothing: write the documents from what is there, or in {report.KEPT.relative_to(PROJECT_ROOT)}",
    )  # fmt: skip
    return parser.parse_args()


def _check(names: Sequence[str]) -> None:
    """Stop before anything is measured where a peer cannot be started."""
    missing = {peer.name: peer.missing for peer in PEERS if peer.missing and (not names or peer.name in names)}
    if missing:
        told = "; ".join(f"{name} needs {', '.join(what)}" for name, what in missing.items())
        raise SystemExit(f"{told}. `make bench-peers` installs all of it on Debian; --only leaves peers out.")


def main() -> None:
    """Measure, print the table, and write it where asked."""
    options = _options()
    if options.again is not None:
        report.write_again(options.again)
        return
    _check(options.only or [])
    os.sched_setaffinity(0, {OTHER_CORE})
    end_when_told()
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as name:
        results = run(options, Path(name))
    told = _told(results)
    print(report.text(told))
    if options.write:
        report.write(told)


if __name__ == "__main__":
    main()
