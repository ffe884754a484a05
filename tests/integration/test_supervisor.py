"""The supervisor with small parts of our own: what is started, kept, told and stopped, and in which order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from shared.errors import StartError
from shared.joint_log import JointLog
from shared.processes import Part
from shared.supervisor import Supervisor, until_told_to_stop
from shared.unprivileged import launched
from tests.eventually import eventually_async

READY_SECONDS = 20.0
#: Says its pid, then lives until SIGTERM; says what it was asked.
OBEDIENT = """
import signal, sys, time
def stop(number, frame):
    print("stopped", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("started", flush=True)
time.sleep(600)
"""
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('started', flush=True); time.sleep(600)"
)
#: A parent whose child would outlive it.
PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(600)
"""
DYING = "print('the reason', flush=True); raise SystemExit(3)"


class Collected:
    """A joint log whose lines are read back as they come."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        self.log = JointLog(writer)
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with os.fdopen(self._reader, errors="replace") as file:
            for line in file:
                self.lines.append(line.rstrip("\n").replace(" │ ", ": ").strip())

    def said(self, line: str) -> bool:
        return any(line in told for told in self.lines)


@pytest.fixture
def collected() -> Collected:
    return Collected()


@pytest.fixture
async def supervisor(collected: Collected) -> AsyncIterator[Supervisor]:
    made = Supervisor(collected.log)
    yield made
    made.kill()
    await made.stop()


def part(name: str, program: str, **more: object) -> Part:
    command = [sys.executable, "-c", program]
    made = Part(name=name, command=lambda: launched(command, death_signal=signal.SIGKILL), environment=dict(os.environ))
    return replace(made, **more)  # type: ignore[arg-type]


async def said(collected: Collected, line: str, within: float = 10.0) -> None:
    async def it() -> bool:
        return collected.said(line)

    await eventually_async(it, within)


#: What the run itself started before the test: its servers and the zygote.
_others: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def _know_the_others() -> None:
    _others.clear()
    _others.update(psutil.Process().children())


def children() -> list[psutil.Process]:
    """Return the processes that the test has started, and theirs."""
    mine = [child for child in psutil.Process().children() if child not in _others]
    return [*mine, *(descendant for child in mine for descendant in child.children(recursive=True))]


async def none_left(before: list[psutil.Process]) -> None:
    async def none() -> bool:
        return not [process for process in before if process.is_running()]

    await eventually_async(none)


async def test_stages_stop_in_the_reverse_order(supervisor: Supervisor, collected: Collected) -> None:
    for name in ("first", "second", "third"):
        supervisor.start([part(name, OBEDIENT)])
        await said(collected, f"{name}: started")
    await supervisor.stop()
    await said(collected, "first: stopped")
    assert [line for line in collected.lines if "stopped" in line] == [
        "third: stopped",
        "second: stopped",
        "first: stopped",
    ]


async def test_a_killed_part_is_started_again_and_the_log_says_so(supervisor: Supervisor, collected: Collected) -> None:
    supervisor.start([part("kept", OBEDIENT)])
    await said(collected, "kept: started")
    (child,) = children()
    child.kill()
    await said(collected, "carillon: kept was killed by SIGKILL; it is started again in ")

    async def again() -> bool:
        return collected.lines.count("kept: started") == 2

    await eventually_async(again)


async def test_what_a_killed_part_left_in_its_group_is_gone_before_the_next_start(supervisor: Supervisor) -> None:
    supervisor.start([part("parent", PARENT)])

    async def grandchild() -> psutil.Process | None:
        return next((p for child in children() for p in child.children()), None)

    orphan = await eventually_async(grandchild)
    assert orphan is not None
    orphan.parent().kill()
    await none_left([orphan])


async def test_a_part_that_dies_five_times_ends_the_whole_with_its_last_words(
    supervisor: Supervisor, collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.processes.back_off_seconds", lambda failures, jitter: 0.0)
    supervisor.start([part("steady", OBEDIENT), part("dying", DYING)])
    with pytest.raises(StartError) as told:
        await supervisor.unless_hopeless(asyncio.Event().wait())
    assert told.value.detail == (
        "dying ended with exit code 3, 5 times within a minute, so all is stopped; its last words: the reason"
    )
    await supervisor.stop()
    assert children() == []
    assert collected.lines.count("dying: the reason") == 5


async def test_a_part_whose_preparation_fails_counts_as_dying(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.processes.back_off_seconds", lambda failures, jitter: 0.0)

    def prepare() -> None:
        raise StartError("no room")

    supervisor.start([part("unprepared", OBEDIENT, prepare=prepare)])
    with pytest.raises(StartError, match=r"unprepared could not be started, 5 times .*: no room"):
        await supervisor.ready(READY_SECONDS)


async def test_readiness_is_asked_for_until_it_comes(supervisor: Supervisor, tmp_path: Path) -> None:
    file = tmp_path / "ready"
    program = f"import pathlib, time; pathlib.Path({str(file)!r}).touch(); time.sleep(600)"

    async def is_ready() -> bool:
        return file.exists()

    supervisor.start([part("slow", program, is_ready=is_ready)])
    await supervisor.ready(READY_SECONDS)
    assert file.exists()


async def test_those_that_are_not_ready_in_time_are_named(supervisor: Supervisor, collected: Collected) -> None:
    async def never() -> bool:
        return False

    supervisor.start([part("quick", OBEDIENT), part("late", OBEDIENT, is_ready=never)])
    await said(collected, "quick: started")
    with pytest.raises(StartError, match=r"Not ready within 0\.5 s: late\."):
        await supervisor.ready(0.5)


async def test_a_part_that_does_not_stop_is_killed_after_its_grace(
    supervisor: Supervisor, collected: Collected
) -> None:
    supervisor.start([part("deaf", DEAF, stop_seconds=0.3)])
    await said(collected, "deaf: started")
    before = children()
    await supervisor.stop()
    assert children() == []
    await said(collected, "carillon: deaf did not stop within 0.3 s and is killed")
    await none_left(before)


async def test_a_part_is_stopped_while_it_waits_to_be_started_again(
    supervisor: Supervisor, collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.processes.back_off_seconds", lambda failures, jitter: 600.0)
    supervisor.start([part("waiting", DYING)])
    await said(collected, "it is started again in 600.0 s")
    await asyncio.wait_for(supervisor.stop(), timeout=5)


def _run(collected: Collected, *parts: Part) -> asyncio.Task[None]:
    supervisor = Supervisor(collected.log)

    async def work() -> None:
        supervisor.start(parts)
        await supervisor.unless_hopeless(asyncio.Event().wait())

    return asyncio.ensure_future(until_told_to_stop(supervisor, work(), collected.log))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_stop_signal_stops_everything_in_order(collected: Collected, number: signal.Signals) -> None:
    task = _run(collected, part("one", OBEDIENT), part("two", OBEDIENT))
    await said(collected, "one: started")
    await said(collected, "two: started")
    os.kill(os.getpid(), number)
    await asyncio.wait_for(task, timeout=10)
    assert children() == []
    await said(collected, "one: stopped")
    await said(collected, "two: stopped")


async def test_a_second_signal_kills_what_does_not_stop(collected: Collected) -> None:
    task = _run(collected, part("deaf", DEAF, stop_seconds=600.0))
    await said(collected, "deaf: started")
    os.kill(os.getpid(), signal.SIGINT)
    await said(collected, "carillon: stopping; once more kills")
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(task, timeout=10)
    assert children() == []


async def test_a_hopeless_part_stops_the_others_and_is_told(
    collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.processes.back_off_seconds", lambda failures, jitter: 0.0)
    task = _run(collected, part("steady", OBEDIENT), part("dying", DYING))
    with pytest.raises(StartError, match="dying ended with exit code 3"):
        await asyncio.wait_for(task, timeout=20)
    assert children() == []
