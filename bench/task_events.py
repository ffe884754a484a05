"""What telling Flower of tasks costs: tasks a second and CPU for each, by CARILLON_TASK_EVENTS_PER_SECOND.

`python -m bench.task_events [tasks]` prints a table. A task here is a look for an event that does not exist: one small
transaction, as short as tasks are, so that what surrounds it weighs most. One process works through tasks that wait
already: it is stopped until all of them are queued. The best of `ROUNDS` turns is told, and the
rates take turns: others use the machine, too.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from typing import NamedTuple

import httpx
import psutil
from celery import Celery

from bench.product import Product, running
from shared.settings import load_settings, runtime_file
from shared.wake import FAN_OUT_QUEUE
from workers.app import FAN_OUT_ONE_TASK

TASKS = 2_000
ROUNDS = 3
RATES = {0: "of none", 10: "of 10 a second", 100_000: "of all"}
PARTS = {"lane": "--hostname=urgent", "flower": "flower"}
#: No event has this key.
NOBODY = 0
POLL_S = 0.1
PATIENCE_S = 300.0


class Measured(NamedTuple):
    """What one turn came to: tasks a second, and CPU milliseconds for each task in the lane and in Flower."""

    per_s: float
    lane_ms: float
    flower_ms: float


def _ended(product: Product) -> int:
    text = httpx.get(f"{product.url}/metrics", timeout=30).text
    wanted = f'task="{FAN_OUT_ONE_TASK}"'
    rows = [line for line in text.splitlines() if line.startswith("carillon_tasks_total") and wanted in line]
    return round(sum(float(row.rpartition(" ")[2]) for row in rows))


def _processes(product: Product, part: str) -> list[psutil.Process]:
    """Return a part's processes: the lane's worker with its pool, or Flower."""
    told = json.loads(runtime_file(product.folder).read_text())
    family = psutil.Process(told["pid"]).children(recursive=True)
    parents = [process for process in family if any(part in each for each in process.cmdline())]
    return [*parents, *(child for parent in parents for child in parent.children(recursive=True))]


def _cpu(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in set(processes)]
    return float(sum(each.user + each.system for each in times))


class Bench:
    """A product with one process in its urgent lane, told of so many tasks a second."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._parts = {name: _processes(product, word) for name, word in PARTS.items()}
        broker = load_settings().broker_url
        assert broker is not None
        self._broker = broker.get_secret_value()

    def turn(self, tasks: int) -> Measured:
        """Queue so many tasks while the lane stands still, and let it work through them."""
        before, ended = {name: _cpu(found) for name, found in self._parts.items()}, _ended(self._product)
        self._signal(signal.SIGSTOP)
        self._send(tasks)
        began = time.monotonic()
        self._signal(signal.SIGCONT)
        while _ended(self._product) < ended + tasks:
            if time.monotonic() > began + PATIENCE_S:
                raise SystemExit(f"The tasks did not end within {PATIENCE_S:.0f} s.")
            time.sleep(POLL_S)
        per_s = tasks / (time.monotonic() - began)
        used = {name: 1_000 * (_cpu(found) - before[name]) / tasks for name, found in self._parts.items()}
        return Measured(per_s, used["lane"], used["flower"])

    def _signal(self, number: signal.Signals) -> None:
        for process in self._parts["lane"]:
            process.send_signal(number)

    def _send(self, tasks: int) -> None:
        with Celery(broker=self._broker, set_as_current=False) as producer:
            for _ in range(tasks):
                producer.send_task(FAN_OUT_ONE_TASK, args=(NOBODY,), queue=FAN_OUT_QUEUE, ignore_result=True)


def measure(tasks: int) -> dict[int, Measured]:
    """Return the best turn of each rate. All have turns one after the other, after one that only warms them."""
    with ExitStack() as stack:
        benches = {rate: Bench(stack.enter_context(_told(rate))) for rate in RATES}
        turns = [{rate: bench.turn(tasks) for rate, bench in benches.items()} for _ in range(1 + ROUNDS)]
    return {rate: max(turn[rate] for turn in turns[1:]) for rate in RATES}


def _told(rate: int) -> AbstractContextManager[Product]:
    return running(CARILLON_TASK_EVENTS_PER_SECOND=str(rate), CARILLON_WORKER_CONCURRENCY="1")


def main() -> None:
    """Print a row for each rate."""
    measured = measure(int(sys.argv[1]) if len(sys.argv) > 1 else TASKS)
    without = measured[0].per_s
    print("| Flower is told | tasks a second | of none's | CPU for a task: lane | Flower |")
    print("| --- | --- | --- | --- | --- |")
    for rate, told in measured.items():
        cells = f"{told.per_s:,.0f} | {told.per_s / without:.2f} | {told.lane_ms:.2f} ms | {told.flower_ms:.2f} ms"
        print(f"| {RATES[rate]} | {cells} |")


if __name__ == "__main__":
    main()
