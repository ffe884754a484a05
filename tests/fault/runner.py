"""`make fault`: every fault, one after the other, and the table of results in docs/faults.md.

Faults that need the same kind of cluster share one, each with a tenant, recipients and streams of its own: starting one
takes as long as some faults. Whatever failed leaves its cluster to nobody.

It can be interrupted: what is done is kept in `.cache/faults.json`, and the next call goes on with the fault that is
missing. Once all are done the next call begins anew. A fault that failed is run again by the next call.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from shared.settings import PROJECT_ROOT
from tests.fault.cluster import Cluster, Shape, faketime
from tests.fault.faults import FAULTS
from tests.fault.load import BATCH, PEOPLE, RATE
from tests.fault.state import keep, read_state
from tests.fault.trial import MEMORY_MIB, REPAIR_S, Fault, Result, run_on
from tests.servers import Child
from tests.zygote import Zygote

STATE = PROJECT_ROOT / ".cache" / "faults.json"
TABLE = PROJECT_ROOT / "docs" / "faults.md"

#: What a result depends on.
PRODUCT = ("api", "workers", "shared", "migrations", "beat_schedule.py")
CODE = (*PRODUCT, "tests")

Entry = dict[str, Any]


def entry_of(result: Result) -> Entry:
    """Return a result as it is kept."""
    return {**asdict(result), "passed": result.passed, "at": time.strftime("%Y-%m-%d"), "commit": commit()}


def commit() -> str:
    """Return the short name of the commit whose code runs here, with `+` where that was changed since."""
    named, changed = (_git(*words) for words in (("rev-parse", "--short=7", "HEAD"), ("status", "--porcelain", *CODE)))
    return (named or "no commit") + ("+" if changed else "")


def _git(*words: str) -> str:
    try:
        asked = subprocess.run(["git", *words], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return asked.stdout.strip()


HEADER = f"""# What was done to it, and what came of it

Written by `make fault`; `tests/fault/` says what each line does. Two API processes, two workers in two lanes each,
beat, PostgreSQL and Redis, each behind a proxy that can cut, delay, drop and half-close; {PEOPLE} streams, each of its
own recipient; {RATE:.0f} events a second in batches of {BATCH}, and every two seconds an announcement to all.
A batch is posted again until it is acknowledged. Faults that need nothing special share a cluster, with people of their
own each.

- *lost*: acknowledged and not stored, or not told on the stream. *doubled*: stored or told as new twice.
- *seq*: a change's number that was missing on a stream, or came twice. *drift*: inboxes whose counters or list differ
  from their rows, and streams that know something else than a page fetched then.
- *repair*: the longest time from the end of an injection until everything acknowledged by then had been told; at most
  {REPAIR_S:.0f} s. *longest wait*: from any acknowledgement to its telling, the fault included. An event that kills its
  worker goes on killing for half a minute, until it is `failed`: there the longest wait of all other events is judged.
- *memory*: the most that an API process ever had, in MiB; at most {MEMORY_MIB:.0f}.

| fault | times | acknowledged | lost | doubled | seq | drift | repair (s) | longest wait (s) | memory | |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |
"""


def table_of(state: dict[str, Entry]) -> str:
    """Return docs/faults.md for these results, in the order of the suite."""
    lines = [_line(state[fault.name]) for fault in FAULTS if fault.name in state]
    return HEADER + "".join(lines) + _footer(state)


def _line(entry: Entry) -> str:
    verdict = entry["verdict"]
    cells = [
        entry["name"], entry["times"], f"{verdict['acknowledged']:,}", verdict["lost"], verdict["doubled"],
        verdict["seq"], verdict["drift"], f"{max(entry['repairs'], default=0.0):.1f}", f"{entry['longest_wait']:.1f}",
        f"{entry['memory_mib']:.0f}", "" if entry["passed"] else "**failed**",
    ]  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"


def _footer(state: dict[str, Entry]) -> str:
    entries = list(state.values())
    times = sum(entry["times"] for entry in entries)
    acknowledged = sum(entry["verdict"]["acknowledged"] for entry in entries)
    minutes = sum(entry["seconds"] for entry in entries) / 60
    last = max((entry["at"] for entry in entries), default="never")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return (
        f"\n{len(entries)} of {len(FAULTS)} faults, {times} injections, {acknowledged:,} acknowledged events, "
        f"{minutes:.0f} minutes on {machine}; last run {last}.\n"
        f"\nRun in several calls, where there is more than one commit: {_commits(entries)}.\n"
    )


def _commits(entries: list[Entry]) -> str:
    """Tell which rows ran which code: of the commit of most rows how many, of each other one their names."""
    commits = Counter(entry["commit"] for entry in entries)
    (most, many), *others = commits.most_common() or [("none", 0)]
    told = [f"`{most}` ({many} rows){_since(most)}"]
    for name, _ in others:
        rows = ", ".join(entry["name"] for entry in entries if entry["commit"] == name)
        told.append(f"`{name}` ({rows}){_since(name)}")
    return "; ".join(told)


@cache
def _since(name: str) -> str:
    """Return a mark where the product or its faults are other ones now than at that commit."""
    try:
        words = ["git", "diff", "--quiet", name, "--", *PRODUCT, "tests/fault"]
        asked = subprocess.run(words, cwd=PROJECT_ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        return ""
    # Also for a commit that is not there (128), or whose code was changed (`+`).
    return " **(other code since)**" if asked.returncode else ""


def tell(result: Result) -> None:
    """Print what a fault came to."""
    verdict = result.verdict
    word = "passed" if result.passed else "FAILED"
    print(
        f"{result.name}: {word} in {result.seconds:.0f} s; {verdict.acknowledged:,} acknowledged "
        f"({result.rate:.0f}/s), lost {verdict.lost}, doubled {verdict.doubled}, seq {verdict.seq}, drift "
        f"{verdict.drift}, other {verdict.other}, repair {result.longest:.1f} s, {result.memory_mib:.0f} MiB"
    )
    print(f"    {result.notes}")
    for words in verdict.words:
        print(f"    {words}")
    sys.stdout.flush()


class Shared:
    """The cluster that faults of one shape run on, one after the other; close it at the end."""

    def __init__(self) -> None:
        self._cluster: Cluster | None = None

    def run(self, fault: Fault, times: int | None, seed: int | None) -> Result:
        """Run one fault on the present cluster if that fits, else on a new one. Raises what the fault does."""
        began = time.monotonic()
        cluster = self._fitting(fault)
        fit_for_others = False
        try:
            result = run_on(cluster, fault, times, seed)
            fit_for_others = result.passed and not fault.alone
        finally:
            if not fit_for_others:
                self.close()
        return replace(result, seconds=time.monotonic() - began)

    def _fitting(self, fault: Fault) -> Cluster:
        if self._cluster is None or self._cluster.shape != fault.shape or fault.alone:
            self.close()
            self._cluster = Cluster(fault.shape).__enter__()
        return self._cluster

    def close(self) -> None:
        """Stop the cluster, if there is one."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.__exit__(None, None, None)


def run_and_keep(shared: Shared, fault: Fault, state: dict[str, Entry], times: int | None, seed: int | None) -> bool:
    """Run one fault, keep and publish its result; returns whether it passed."""
    try:
        result = shared.run(fault, times, seed)
    except Exception:
        # Whatever it was, the faults after it are run.
        traceback.print_exc()
        print(f"{fault.name}: FAILED, see above", flush=True)
        return False
    tell(result)
    state[fault.name] = entry_of(result)
    keep(STATE, state)
    TABLE.write_text(table_of(state))
    return result.passed


def due(state: dict[str, Entry], only: str | None) -> list[Fault]:
    """Return the faults to run now: those that `only` begins, or those that have not passed in full yet, or all."""
    if only is not None:
        return [fault for fault in FAULTS if fault.name.startswith(only)]
    left = [fault for fault in FAULTS if not _is_done(fault, state.get(fault.name))]
    if not left:
        state.clear()
    return left or list(FAULTS)


def in_turn(chosen: list[Fault]) -> list[Fault]:
    """Return the faults in an order in which those of one shape follow each other."""
    shapes: list[Shape] = []
    for fault in chosen:
        if fault.shape not in shapes:
            shapes.append(fault.shape)
    return sorted(chosen, key=lambda fault: (shapes.index(fault.shape), fault.alone))


def _is_done(fault: Fault, entry: Entry | None) -> bool:
    return entry is not None and entry["passed"] and entry["times"] >= fault.times


def require(chosen: list[Fault]) -> None:
    """End with one sentence where this machine lacks what one of the faults needs."""
    if any(fault.shape.clocks for fault in chosen) and faketime() is None:
        raise SystemExit("Setting a process's clock needs libfaketime (Debian: apt-get install libfaketime).")
    if any(fault.shape.disk_mib for fault in chosen) and os.geteuid():
        raise SystemExit("Filling PostgreSQL's disk needs a small one: run this as root, who may mount it.")


@contextmanager
def _one_zygote() -> Iterator[None]:
    """Let every cluster's processes be forked from one that imported the product once: 3 s less for each fault."""
    with tempfile.TemporaryDirectory(prefix="carillon-zygote-") as folder:
        Child.zygote = Zygote(Path(folder))
        try:
            yield
        finally:
            Child.zygote.stop()
            Child.zygote = None


def main() -> None:
    """Run what is due; ends with 1 when something of it was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="faults whose names begin like this")
    parser.add_argument("--times", type=int, help="injections of each fault, instead of its own number")
    parser.add_argument("--seed", type=int, help="the first injection's seed; the next ones count up")
    options = parser.parse_args()
    # A signal ends the run as Ctrl-C does: everything that was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    state = read_state(STATE)
    chosen = due(state, options.only)
    require(chosen)
    with _one_zygote(), closing(Shared()) as shared:
        passed = [run_and_keep(shared, fault, state, options.times, options.seed) for fault in in_turn(chosen)]
    print(f"{sum(passed)} of {len(chosen)} faults passed; the table is in {TABLE.relative_to(Path.cwd())}")
    raise SystemExit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
