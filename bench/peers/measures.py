"""What is measured of a server, over as many open streams: the same for all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.peers.load import OPENING, FailedError, Load
from bench.peers.servers import Server
from shared.settings import Settings

#: A rate counts as reached where 99 of 100 messages come within this (milliseconds).
BOUND_MS = 100.0
#: The rate at which latency is measured: messages a second.
CALM = 2_000
#: The search's first step, up or down; each that follows is wider, until the limit lies between two. A limit that
#: another run has found is near.
STEP, NEAR = 1.25, 1.1
WIDER = 1.5
#: What lies between is halved until it is no more than this factor.
PRECISION = 1.03
TRIALS = 2
#: What does not keep up with so little is not looked at further.
LEAST = 100.0
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
    """How long is measured (seconds), and how many announcements at most.

    `once`: whether also what one run is enough for is measured.
    """

    trial_s: float
    calm_s: float
    rounds: int
    once: bool = True


FULL = Effort(trial_s=1.0, calm_s=3.0, rounds=80)
QUICK = Effort(trial_s=0.6, calm_s=2.0, rounds=40)
#: How long idle streams are looked at: a heartbeat's interval, so that each gets one.
IDLE_S: float = Settings.model_fields["heartbeat_seconds"].default
#: Slow servers get fewer announcements than that: as many as take so long one after the other, but a full window.
BROADCAST_S = 5.0


def opening(load: Load, server: Server, at_once: int = OPENING) -> Figures:
    """Open all streams: how many a second, what each keeps resident (KiB), how many were refused or closed at first."""
    before = server.rss
    told = load.open(at_once)
    if told["lost"]:
        raise FailedError(f"{told['lost']} of {load.number} streams could not be opened.")
    kept = (server.rss - before) / load.number / 1024
    return {"connects_per_s": load.number / told["seconds"], "rss_kib": kept, "opened_again": told["again"]}


def idle(server: Server) -> Figures:
    """Return the share of a core (percent) that open streams cost while nothing is published."""
    before = server.cpu
    time.sleep(IDLE_S)
    return {"idle_percent": 100 * (server.cpu - before) / IDLE_S}


def _reached(load: Load, rate: float, seconds: float) -> bool:
    """Return whether the server keeps up with a rate; a second trial forgives what else the machine did."""
    return any(_keeps_up(load.unicast(rate, seconds), rate, seconds) for _ in range(TRIALS))


def _keeps_up(told: dict[str, Any], rate: float, seconds: float) -> bool:
    whole = told["received"] == told["sent"] >= SHORT * rate * seconds
    return bool(whole and told["p99"] < BOUND_MS)


def unicast(load: Load, guess: float, effort: Effort, step: float = STEP, *, whole: bool = False) -> Figures:
    """Return the greatest rate at which p99 is below the bound, and p99 at the calm rate.

    Raises FailedError where messages are missing at the calm rate and `whole` is asked for.
    """
    calm = load.unicast(CALM, effort.calm_s)
    if calm["received"] < calm["sent"]:
        # A second trial forgives what else the machine did.
        calm = load.unicast(CALM, effort.calm_s)
    if whole and calm["received"] < calm["sent"]:
        raise FailedError(f"{calm['sent'] - calm['received']} of {calm['sent']} messages are missing at {CALM}/s.")
    best = search(lambda rate: _reached(load, rate, effort.trial_s), guess, step)
    return {"p50_calm_ms": calm["p50"], "p99_calm_ms": calm["p99"], "unicast_per_s": best}


def search(reached: Callable[[float], bool], guess: float, step: float) -> float:
    """Return the greatest rate that is reached, to the precision; 0 where the least is not.

    First the limit is caught between two rates, by steps from `guess`, then what lies between is halved.
    """
    good, bad, rate = 0.0, math.inf, guess
    while not good or bad == math.inf:
        if reached(rate):
            good, rate = rate, rate * step
        elif rate < LEAST:
            return 0.0
        else:
            bad, rate = rate, rate / step
        step **= WIDER
    while bad / good > PRECISION:
        rate = math.sqrt(good * bad)
        if reached(rate):
            good = rate
        else:
            bad = rate
    return good


def broadcast(load: Load, effort: Effort, target: str, chunk: int) -> Figures:
    """Return deliveries a second with several announcements under way, and when the last has one told alone (ms)."""
    alone = sorted(_whole(load.broadcast(1, 1, target, chunk))["last"] for _ in range(ALONE))[ALONE // 2]
    rounds = max(WINDOW, min(effort.rounds, int(BROADCAST_S * 1000 / alone)))
    told = _whole(load.broadcast(rounds, WINDOW, target, chunk))
    return {"deliveries_per_s": told["received"] / told["seconds"], "last_ms": alone}


def _whole(told: dict[str, Any]) -> dict[str, Any]:
    if told["received"] != told["sent"]:
        raise FailedError(f"{told['sent'] - told['received']} of {told['sent']} announced messages are missing.")
    return told


def disturbed(load: Load, spared: int, churn: float, slow: int) -> Figures:
    """Return the p99 (ms) of streams beside others that are opened anew all the time, and some that read nothing.

    Beside it what a server may spare itself: messages that are missing, and openings that are not answered.
    """
    quiet = load.unicast(CALM, DISTURBED_S, spared)
    beside = load.unicast(CALM, DISTURBED_S, spared, churn, slow)
    return {
        "p99_quiet_ms": quiet["p99"],
        "p99_disturbed_ms": beside["p99"],
        "missing": beside["sent"] - beside["received"],
        "unanswered": beside["unanswered"],
    }
