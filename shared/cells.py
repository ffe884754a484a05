"""This process's numbers, in memory that outlives it: a file of 64-bit cells, mapped, which others read.

A process holds a lock on its file for as long as it lives, and the kernel gives that back however it ends. Whoever
reads a file that nobody holds adds its counters to what ended processes left, and removes it: nothing counted is lost
with a process, and nothing is counted twice (docs/decisions/0005-metrics.md).

The file: `CELLS` cells in the machine's byte order, then a line of JSON for each cell in use, in their order.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Cells of a process: some 400 are used with 60 event types. Beyond it, `SPILLED` takes what has no cell.
CELLS = 4_096
SIZE = 8 * CELLS
#: Takes what found no cell: one that is shown, so that it is noticed.
SPILLED = ("carillon_metrics_spilled_total", "")
SUFFIX = ".cells"
RETIRED = "retired.json"
LOCK = "lock"

#: A cell's name: the metric, the part of it (a bucket, the sum), the labels' values.
Name = tuple[str, ...]


class Cells:
    """The cells of one process. Before `open` they are in private memory: a command line leaves no file."""

    def __init__(self) -> None:
        self._places: dict[Name, int] = {}
        self._memory: bytearray | mmap.mmap = bytearray(SIZE)
        self.values = memoryview(self._memory).cast("q")
        self._file: int | None = None
        self._lock = threading.Lock()
        #: True once a name could not be written to the file.
        self._is_full = False
        self.place(SPILLED)

    def place(self, name: Name) -> int:
        """Return the index of a cell in `values`, the same for the whole life of the process."""
        found = self._places.get(name)
        return self._new(name) if found is None else found

    def _new(self, name: Name) -> int:
        with self._lock:
            if name in self._places:
                return self._places[name]
            if len(self._places) >= CELLS or not self._tell(name):
                return self._places[SPILLED]
            return self._places.setdefault(name, len(self._places))

    def _tell(self, name: Name) -> bool:
        """Write a new cell's name down; returns whether it is there. On a full disk no later one is tried: the lines
        are in the order of the cells, and half a line must stay the last.
        """
        if self._file is None:
            return not self._is_full
        with suppress(OSError):
            if not self._is_full and os.write(self._file, _line(name)) == len(_line(name)):
                return True
        self._is_full = True
        return False

    def add(self, place: int, amount: int) -> None:
        """Add to a cell; threads of this process lose nothing to each other. About 0.2 µs."""
        with self._lock:
            self.values[place] += amount

    def told(self) -> dict[Name, int]:
        """Return what this process counted."""
        return {name: self.values[place] for name, place in self._places.items()}

    def open(self, folder: Path, part: str) -> None:
        """Begin a file of this process's own, at zero: at a process's start, and in a forked one.

        Raises `OSError`, and has no file then.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{part}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        # A forked process's lock may have been copied while it was held.
        self._lock = threading.Lock()
        with self._lock:
            self._let_go()
            try:
                self._begin(file)
            except OSError:
                os.close(file)
                path.unlink()
                raise

    def _begin(self, file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
        # With its blocks: touching a page that finds none on a full disk would end the process (SIGBUS).
        os.posix_fallocate(file, 0, SIZE)
        names = b"".join(map(_line, self._places))
        if os.write(file, names) < len(names):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._memory = mmap.mmap(file, SIZE)
        self.values = memoryview(self._memory).cast("q")
        self._file, self._is_full = file, False

    def close(self) -> None:
        """Let go of the file, which a reader then retires; what is counted from now on is seen by nobody."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None
        # Unmapped with the last reference: a thread may be writing through one now.
        self._memory = bytearray(SIZE)
        self.values = memoryview(self._memory).cast("q")


def _line(name: Name) -> bytes:
    return json.dumps(name).encode() + b"\n"


#: This process's.
CELLS_HERE = Cells()


class Read:
    """What one file says. `part`: the kind of its process."""

    def __init__(self, path: Path) -> None:
        self.process = path.name.removesuffix(SUFFIX)
        self.part = self.process.rsplit("-", 2)[0]
        raw = path.read_bytes()
        values = memoryview(raw[:SIZE].ljust(SIZE, b"\0")).cast("q")
        lines = raw[SIZE:].splitlines(keepends=True)
        names = [tuple(json.loads(line)) for line in lines if line.endswith(b"\n")]
        self.values: dict[Name, int] = dict(zip(names, values, strict=False))


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: a file is retired by one reader, and the others see it before or after."""
    with (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Retired:
    """What ended processes counted, by cell. `latest` names the metrics of which the greatest is kept."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RETIRED
        self.values: dict[Name, int] = {}
        self._added: set[str] = set()
        with suppress(FileNotFoundError, ValueError, KeyError):
            told = json.loads(self._path.read_text())
            self.values = {tuple(name): value for name, value in told["values"]}
            self._added = set(told["added"])

    def add(self, read: Read, kept: frozenset[str], latest: frozenset[str]) -> None:
        """Add what one ended process counted, of the metrics in `kept`, unless it was added before."""
        if read.process in self._added:
            return
        self._added.add(read.process)
        for name, value in read.values.items():
            if name[0] in latest:
                self.values[name] = max(value, self.values.get(name, 0))
            elif name[0] in kept:
                self.values[name] = value + self.values.get(name, 0)

    def save(self, there: set[str]) -> None:
        """Write all, atomically. Of the processes that were added, those whose files are still there are remembered."""
        self._added &= there
        new = self._path.with_suffix(".new")
        told = {"values": [[name, value] for name, value in self.values.items()], "added": sorted(self._added)}
        new.write_text(json.dumps(told))
        new.replace(self._path)


def read_all(folder: Path, kept: frozenset[str], latest: frozenset[str]) -> tuple[list[Read], dict[Name, int]]:
    """Return what each living process says, and what the ended ones left. Raises `OSError`.

    `kept`: the metrics that an ended process's numbers are added of; those in `latest` by their greatest. The files of
    ended processes are removed once they are added.
    """
    with _alone(folder):
        retired = Retired(folder)
        paths = sorted(folder.glob(f"*{SUFFIX}"))
        ended = [path for path in paths if not _is_held(path)]
        for path in ended:
            retired.add(Read(path), kept, latest)
        if ended:
            retired.save({path.name.removesuffix(SUFFIX) for path in ended})
            for path in ended:
                path.unlink(missing_ok=True)
        return [Read(path) for path in paths if path not in ended], retired.values
