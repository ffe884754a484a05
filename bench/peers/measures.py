"""What is measured of a server, over as many open streams: the same for all."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from bench.peers.load import Load
from bench.peers.servers import Server

#: A rate counts as reached where 99 of 100 messages come within this (milliseconds).
BOUND_MS = 100.0
#: The rate at which latency is measured: messages a second.
CALM = 2_000
#: The search's steps: up or down by this factor, then halving it.
STEP = 1.25
HALVINGS = 3
TRIALS = 2
#: A generator that falls short of the wanted rate by more has found its own limit.
SHORT = 0.97
#: How long the others' latency is measured, calm and disturbed: servers have work of their own every few seconds, and
#: a window that falls between would be compared with one that does not. A slow reader's buffers are full after half.
DISTURBED_S = 10.0
#: Announcements under way at once while their rate is measured, and those that are told alone, one after the other.
WINDOW = 8
ALONE = 5

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured (seconds), and how many announcements."""

    trial_s: float
    calm_s: float
    idle_s: float
    rounds: int


FULL = Effort(trial_s=2.0, calm_s=5.0, idle_s=30.0, rounds=100)
QUICK = Effort(trial_s=0.8, calm_s=2.0, idle_s=3.0, rounds=40)


def opening(load: Load, server: Server) -> Figures:
    """Open all streams: how many a second, and what each keeps resident (KiB)."""
    before = server.rss
    told = load.open()
    if told["lost"]:
        raise SystemExit(f"{told['lost']} of {load.number} streams could not be opened.")
    kept = (server.rss - before) / load.number / 1024
    return {"connects_per_s": load.number / told["seconds"], "rss_kib": kept}


def idle(server: Server, seconds: float) -> Figures:
    """Return the share of a core (percent) that open streams cost while nothing is published."""
    before = server.cpu
    time.sleep(seconds)
    return {"idle_percent": 100 * (server.cpu - before) / seconds}


def _reached(load: Load, rate: float, seconds: float) -> bool:
    """Return whether the server keeps up with a rate; a second trial forgives what else the machine did."""
    return any(_keeps_up(load.unicast(rate, seconds), rate, seconds) for _ in range(TRIALS))


def _keeps_up(told: dict[str, Any], rate: float, seconds: float) -> bool:
    whole = told["received"] == told["sent"] >= SHORT * rate * seconds
    return bool(whole and told["p99"] < BOUND_MS)


def unicast(load: Load, guess: float, effort: Effort) -> Figures:
    """Return the greatest rate at which p99 is below the bound, and p99 at the calm rate."""
    calm = load.unicast(CALM, effort.calm_s)
    best = _search(load, guess, effort.trial_s)
    return {"p50_calm_ms": calm["p50"], "p99_calm_ms": calm["p99"], "unicast_per_s": best}


def _search(load: Load, guess: float, seconds: float) -> float:
    good, rate, bad = 0.0, guess, float("inf")
    while not (good and bad < float("inf")):
        if _reached(load, rate, seconds):
            good, rate = rate, rate * STEP
        else:
            bad, rate = rate, rate / STEP
    for _ in range(HALVINGS):
        rate = (good * bad) ** 0.5
        if _reached(load, rate, seconds):
            good = rate
        else:
            bad = rate
    return good


def broadcast(load: Load, effort: Effort, target: str, chunk: int) -> Figures:
    """Return deliveries a second with several announcements under way, and when the last has one told alone (ms)."""
    alone = sorted(_whole(load.broadcast(1, 1, target, chunk))["last"] for _ in range(ALONE))
    told = _whole(load.broadcast(effort.rounds, WINDOW, target, chunk))
    return {"deliveries_per_s": told["received"] / told["seconds"], "last_ms": alone[ALONE // 2]}


def _whole(told: dict[str, Any]) -> dict[str, Any]:
    if told["received"] != told["sent"]:
        raise SystemExit(f"{told['sent'] - told['received']} of {told['sent']} announced messages are missing.")
    return told


def disturbed(load: Load, spared: int, churn: float, slow: int) -> Figures:
    """Return the p99 (ms) of streams beside others that are opened anew all the time, and some that read nothing."""
    quiet = load.unicast(CALM, DISTURBED_S, spared)
    beside = load.unicast(CALM, DISTURBED_S, spared, churn, slow)
    return {
        "p99_quiet_ms": quiet["p99"],
        "p99_disturbed_ms": beside["p99"],
        "missing": beside["sent"] - beside["received"],
    }
