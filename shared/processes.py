"""One supervised part: what it is, and how it is kept running until it is stopped."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import StartError
from shared.joint_log import JointLog

#: This many deaths within a minute and it is no accident: the whole ends with a clear word.
MAX_DEATHS = 5
DEATH_WINDOW_SECONDS = 60.0
MAX_BACK_OFF_SECONDS = 30.0
#: Parts that died of one cause do not come back at one moment.
JITTER = 0.25
#: A longer line (a dumped object) is cut, so that one part cannot fill the log's memory.
MAX_LINE_BYTES = 16_384
LAST_WORDS_LINES = 20
READY_POLL_SECONDS = 0.1
#: For what a dead part wrote last, where a process outside of its group still holds its output open.
LAST_OUTPUT_SECONDS = 1.0


def nothing() -> None:
    """Do nothing: the preparation of a part that needs none."""


async def at_once() -> bool:
    """Return true: the readiness of a part whose being alive is all that can be asked of it."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a supervisor must know of one program."""

    name: str
    #: Asked after `prepare`, before each start.
    command: Callable[[], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    #: Called in a thread before each start. A StartError of it counts as a death.
    prepare: Callable[[], None] = nothing
    #: Whether it does its work now; asked until true, never concurrently.
    is_ready: Callable[[], Awaitable[bool]] = at_once
    stop_signal: signal.Signals = signal.SIGTERM
    #: How long it may take to stop by itself before it is killed.
    stop_seconds: float = 10.0


def back_off_seconds(failures: int, jitter: float) -> float:
    """Return how long to wait after the `failures`-th death in a row, the first being number 1: 1, 2, 4 … 30 s.

    `jitter`, from −1 to 1, moves it by up to 25 % either way; the result never exceeds 30 s.
    """
    return min(MAX_BACK_OFF_SECONDS, 2.0 ** (failures - 1) * (1 + JITTER * jitter))


class Deaths:
    """The recent deaths of one part, and what follows from one more."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MAX_DEATHS)
        self.in_a_row = 0

    def add(self, now: float, lived: float) -> bool:
        """Count a death at `now` after `lived` seconds; return whether it is worth another try.

        False from the fifth death within a minute on. Having lived for a minute starts the row anew.
        """
        self.in_a_row = 1 if lived >= DEATH_WINDOW_SECONDS else self.in_a_row + 1
        self._times.append(now)
        return len(self._times) < MAX_DEATHS or now - self._times[0] > DEATH_WINDOW_SECONDS


def told_exit(code: int) -> str:
    """Return an exit code in words, as in "was killed by SIGKILL"."""
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


async def lines_of(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield a stream's lines without their ends; a line beyond 16 KiB comes in pieces; the last may lack its end."""
    waiting = b""
    while chunk := await stream.read(MAX_LINE_BYTES):
        *whole, waiting = (waiting + chunk).split(b"\n")
        if len(waiting) > MAX_LINE_BYTES:
            whole, waiting = [*whole, waiting], b""
        for line in whole:
            yield line.rstrip(b"\r").decode(errors="replace")
    if waiting:
        yield waiting.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a part: its process, its exit code to come, and the task that relays its output."""

    process: subprocess.Popen[bytes]
    exit: asyncio.Future[int]
    relay: asyncio.Task[None]


def exit_of(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """Return the exit code to come, waited for in a thread.

    (asyncio's own subprocess may call a process running for as long as a grandchild keeps its output open.)
    """
    loop = asyncio.get_running_loop()
    exit_code: asyncio.Future[int] = loop.create_future()

    def wait() -> None:
        code = process.wait()
        with suppress(RuntimeError):  # The loop was closed meanwhile: nobody asks any more.
            loop.call_soon_threadsafe(exit_code.set_result, code)

    threading.Thread(target=wait, daemon=True, name=f"wait-{process.pid}").start()
    return exit_code


class Keeper:
    """Keeps one part running: started again after each death, until `stop()` or until it died too often."""

    def __init__(self, part: Part, log: JointLog) -> None:
        self.part = part
        self._run: Run | None = None
        self._log = log
        self._deaths = Deaths()
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS_LINES)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Start to keep the part; the task ends only with the `StartError` that tells why it is hopeless."""
        self._task = asyncio.create_task(self._keep(), name=self.part.name)
        return self._task

    async def ready(self) -> None:
        """Return once the part runs and is ready."""
        while self._run is None or self._run.exit.done() or not await self.part.is_ready():
            await asyncio.sleep(READY_POLL_SECONDS)

    async def stop(self) -> None:
        """Return when nothing of the part's process group is left: it is asked first, and killed after its grace."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._run is None:
            return
        self._run.process.send_signal(self.part.stop_signal)
        try:
            await asyncio.wait_for(self._finish(self._run), self.part.stop_seconds)
        except TimeoutError:
            self._tell(f"did not stop within {self.part.stop_seconds:g} s and is killed")
            self.kill()
            await self._finish(self._run)

    def kill(self) -> None:
        """End the part's process group at once; whoever waits in `stop()` returns."""
        if self._run is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._run.process.pid, signal.SIGKILL)

    def _tell(self, text: str) -> None:
        self._log.line("carillon", f"{self.part.name} {text}")

    async def _keep(self) -> None:
        while True:
            started = time.monotonic()
            ending = await self._live()
            now = time.monotonic()
            if not self._deaths.add(now, now - started):
                raise StartError(self._obituary(ending))
            delay = back_off_seconds(self._deaths.in_a_row, random.uniform(-1, 1))  # noqa: S311 - no secret
            self._tell(f"{ending}; it is started again in {delay:.1f} s")
            await asyncio.sleep(delay)

    def _obituary(self, ending: str) -> str:
        last = self._last_words[-1] if self._last_words else "nothing"
        return (
            f"{self.part.name} {ending}, {MAX_DEATHS} times within a minute, so all is stopped; its last words: {last}"
        )

    async def _live(self) -> str:
        """Run the part to its end and return how it ended, in words."""
        try:
            await asyncio.to_thread(self.part.prepare)
            self._run = self._spawn()
        except (StartError, OSError) as problem:
            self._last_words.append(str(problem))
            return "could not be started"
        return told_exit(await self._finish(self._run))

    def _spawn(self) -> Run:
        process = subprocess.Popen(
            self.part.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(self.part.environment),
            cwd=self.part.folder,
            # A group of its own: Ctrl-C reaches the supervisor alone, which then stops the parts in order.
            start_new_session=True,
        )
        return Run(process, exit_of(process), asyncio.create_task(self._relay(process)))

    async def _finish(self, run: Run) -> int:
        """Return the exit code once the part has ended, nothing of its group is left and its output is relayed.

        Cancelled, it leaves the part as it is, and may be called again.
        """
        code = await asyncio.shield(run.exit)
        with suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        await asyncio.wait([run.relay], timeout=LAST_OUTPUT_SECONDS)
        run.relay.cancel()
        return code

    async def _relay(self, process: subprocess.Popen[bytes]) -> None:
        stream = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), process.stdout)
        try:
            async for line in lines_of(stream):
                self._hear(line)
        finally:
            pipe.close()

    def _hear(self, line: str) -> None:
        if line.strip():
            self._last_words.append(line)
            self._log.line(self.part.name, line)
