"""What telling Flower of tasks costs: CPU for each task, by CARILLON_TASK_EVENTS_PER_SECOND.

`python -m bench.task_events [tasks]`. A task here is a look for an event that does not exist: one small transaction, as
short as tasks are, so that what surrounds it weighs most. CPU time, not the clock: that is the same on a busy machine.
"""

from __future__ import annotations

import json
import sys
import time

import httpx
import psutil
from celery import Celery

from bench.product import Product, running
from shared.settings import load_settings, runtime_file
from shared.wake import FAN_OUT_QUEUE
from workers.app import FAN_OUT_ONE_TASK

TASKS = 4_000
RATES = {0: "of none", 10: "of 10 a second", 100_000: "of all"}
PARTS = {"lane": "--hostname=urgent", "flower": "flower"}
#: No event has this key.
NOBODY = 0
POLL_S = 1.0
PATIENCE_S = 300.0


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


def measure(rate: int, tasks: int) -> dict[str, float]:
    """Return the CPU milliseconds for each task, of the lane and of Flower."""
    with running(CARILLON_TASK_EVENTS_PER_SECOND=str(rate), CARILLON_WORKER_CONCURRENCY="1") as product:
        parts = {name: _processes(product, word) for name, word in PARTS.items()}
        before, ended = {name: _cpu(found) for name, found in parts.items()}, _ended(product)
        broker = load_settings().broker_url
        assert broker is not None
        with Celery(broker=broker.get_secret_value(), set_as_current=False) as producer:
            for _ in range(tasks):
                producer.send_task(FAN_OUT_ONE_TASK, args=(NOBODY,), queue=FAN_OUT_QUEUE, ignore_result=True)
        deadline = time.monotonic() + PATIENCE_S
        while _ended(product) < ended + tasks and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return {name: 1_000 * (_cpu(found) - before[name]) / tasks for name, found in parts.items()}


def main() -> None:
    """Print a row for each rate."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    for rate, words in RATES.items():
        told = measure(rate, tasks)
        parts = ", ".join(f"{name} {each:.2f} ms" for name, each in told.items())
        print(f"Flower is told {words:15} CPU for each task: {parts}", flush=True)


if __name__ == "__main__":
    main()
