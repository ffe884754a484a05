"""How far an import of a file is, and which of its rows were rejected: two files beside it that outlive a Ctrl-C."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

HEADING = ("line", "field", "reason")


class Rejected(NamedTuple):
    """One thing that is wrong with a row; the field is empty where it is the row as a whole."""

    line: int
    field: str
    reason: str


@dataclass(slots=True)
class Progress:
    """What was stored of the file so far: `offset` and `line` are where the next row begins.

    `size`, `mtime_ns` and `tenant` tell whether it is still the same import; `reported` is how many bytes of the report
    belong to it.
    """

    size: int
    mtime_ns: int
    tenant: str | None
    offset: int = 0
    line: int = 0
    stored: int = 0
    rejected: int = 0
    reported: int = 0

    def is_of(self, other: Progress) -> bool:
        """Tell whether both are of one import."""
        return (self.size, self.mtime_ns, self.tenant) == (other.size, other.mtime_ns, other.tenant)


class State:
    """The progress and the report of one import, kept beside its file. Raises OSError where they cannot be written.

    A file that cannot be read twice (a pipe) has no progress to keep.
    """

    def __init__(self, file: Path, report: Path | None, tenant: str | None, *, anew: bool) -> None:
        told = file.stat()
        self.resumable = stat.S_ISREG(told.st_mode)
        self.report = report or file.with_name(file.name + ".rejected.csv")
        self._kept = file.with_name(file.name + ".progress.json")
        self.progress = Progress(told.st_size, told.st_mtime_ns, tenant)
        known = None if anew or not self.resumable else self._known()
        #: Whether there is an earlier run to go on from, or one of another file in the way.
        self.resumed = known is not None and known.is_of(self.progress)
        self.changed = known is not None and not self.resumed
        if known is not None and self.resumed:
            self.progress = known
        self._cut_report()

    def _known(self) -> Progress | None:
        try:
            return Progress(**orjson.loads(self._kept.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _cut_report(self) -> None:
        """Take out of the report what a run wrote that ended before it could say so."""
        there = self.report.stat().st_size if self.report.exists() else 0
        self.progress.reported = min(self.progress.reported, there)
        if there:
            os.truncate(self.report, self.progress.reported)

    def add(self, rejected: Iterable[Rejected]) -> None:
        """Write rejected rows into the report."""
        rows = list(rejected)
        if not rows:
            return
        words = io.StringIO()
        writer = csv.writer(words, lineterminator="\n")
        writer.writerows(rows if self.progress.reported else [HEADING, *rows])
        written = words.getvalue().encode("utf-8", "backslashreplace")
        with self.report.open("ab") as stream:
            stream.write(written)
        self.progress.reported += len(written)

    def keep(self) -> None:
        """Note the progress: a run that ends after this goes on from here."""
        if self.resumable:
            partial = self._kept.with_suffix(".partial")
            partial.write_bytes(orjson.dumps(asdict(self.progress)))
            partial.replace(self._kept)

    def end(self) -> None:
        """The file is through: nothing to go on from, and no report where nothing was rejected."""
        self._kept.unlink(missing_ok=True)
        if not self.progress.reported:
            self.report.unlink(missing_ok=True)
