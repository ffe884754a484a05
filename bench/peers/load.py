"""The load generator (`load.c`): compiled here, driven by lines, on the core that is not the server's."""

from __future__ import annotations

import json
import select
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

By = Literal["redis", "http", "zmq"]
FOLDER = Path(__file__).parent
#: A command that takes longer than this has failed: opening gives up by itself after 60 s, everything else before.
PATIENCE_S = 120.0
#: Connections that are being opened at the same time: less than any server's listen queue.
OPENING = 200


class FailedError(Exception):
    """A server or the generator did not do what was asked; says what."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """How messages come to the server, and whether they are whole frames or data that it makes frames of."""

    by: By
    port: int
    password: str
    shape: Literal["frame", "json"]


@dataclass(frozen=True, slots=True)
class Streams:
    """What is asked for each stream, the bytes of an answer that follows its channel, and where each is published to.

    The server is on `port`. `targets` may be fewer than the streams.
    """

    port: int
    ready: str
    requests: Sequence[bytes]
    targets: Sequence[str]


def compiled(folder: Path, name: str) -> Path:
    """Compile one of this folder's C programs; returns it. Raises CalledProcessError with the compiler's words told."""
    program = folder / name
    subprocess.run(["gcc", "-O2", "-march=native", "-o", program, FOLDER / f"{name}.c"], check=True)
    return program


class Load:
    """The running generator. Each method returns what it measured: counts, seconds, ages in milliseconds."""

    def __init__(self, process: subprocess.Popen[str], number: int) -> None:
        self._process, self.number = process, number

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        # Each answer is one line, so that nothing of it waits in a buffer.
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            raise FailedError(f"The load generator did not answer {command!r} within {PATIENCE_S:.0f} s.")
        line = self._process.stdout.readline()
        if not line:
            raise FailedError(f"The load generator ended at {command!r}.")
        told: dict[str, Any] = json.loads(line)
        return told

    def open(self, at_once: int = OPENING) -> dict[str, Any]:
        """Open all streams, so many at the same time."""
        return self._ask(f"open {at_once}")

    def unicast(
        self, rate: float, seconds: float, spared: int = 0, churn: float = 0.0, slow: int = 0
    ) -> dict[str, Any]:
        """Publish to streams drawn at random, `rate` a second; ends early where half a second's messages are under way.

        The last `spared` streams are not counted: `slow` of them read nothing, the rest is opened anew, `churn` a
        second; of those `unanswered` had no answer when they were opened anew again, or a second after the end.
        """
        return self._ask(f"unicast {rate} {seconds} {self.number - spared} {churn} {slow}")

    def broadcast(self, rounds: int, window: int, target: str, chunk: int) -> dict[str, Any]:
        """Publish to everybody, `window` rounds at once, by `chunk` recipients named in a message.

        0: one message to `target` reaches all; -1: one message to each target of the streams.
        """
        return self._ask(f"broadcast {rounds} {window} {target} {chunk}")


@contextmanager
def load(program: Path, streams: Streams, publishing: Publishing) -> Iterator[Load]:
    """Start the generator on this process's core; its streams are closed at the end."""
    with tempfile.TemporaryDirectory(prefix="carillon-load-") as name:
        requests, targets = Path(name, "requests"), Path(name, "targets")
        requests.write_bytes(b"".join(b"%d\n%s" % (len(each), each) for each in streams.requests))
        targets.write_text("".join(f"{each}\n" for each in streams.targets))
        command = [str(program), str(streams.port), streams.ready, str(requests), str(targets),
                   publishing.by, str(publishing.port), publishing.password, publishing.shape]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield Load(process, len(streams.requests))
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.communicate()
