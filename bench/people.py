"""`carillon recipients import` of a long CSV file: rows a second, new and again, and its memory.

Uses a temporary embedded PostgreSQL, which flushes as a real one does. One row in 10,000 is wrong and is reported.

    python -m bench.people [--rows 1000000] [--again]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.jobs import servers
from shared import db, directory

TENANT = "bench"
WRONG_EVERY = 10_000
#: The exit code of an import that rejected rows.
REJECTED = 1
POLL_S = 0.2


class Measured(NamedTuple):
    """What one run came to: seconds by the clock, CPU seconds of the command, and MiB of its memory at most."""

    seconds: float
    cpu_s: float
    most_mib: float


def write(file: Path, rows: int) -> None:
    """Write a file of so many people with a role, a name and a department each."""
    with file.open("w") as stream:
        stream.write("id,roles,locale,name,department\n")
        for number in range(rows):
            locale = "no tag!" if number % WRONG_EVERY == 0 else "en"
            stream.write(f"person-{number},student,{locale},Person {number},d{number % 100}\n")


def measure(file: Path) -> Measured:
    """Run the command on the file. Raises `SystemExit` where it ends otherwise than it must."""
    command = [str(Path(sys.executable).with_name("carillon")), "recipients", "import", str(file), "--tenant", TENANT]
    began, most, cpu_s = time.monotonic(), 0.0, 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):
                times = watched.cpu_times()
                cpu_s, most = times.user + times.system, max(most, watched.memory_info().rss / 2**20)
            time.sleep(POLL_S)
    if process.returncode != REJECTED:
        raise SystemExit(f"The import ended with {process.returncode}.")
    return Measured(time.monotonic() - began, cpu_s, most)


def main() -> None:
    """Print a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--again", action="store_true", help="import the same file a second time")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as folder, servers(each=100):
        with db.transaction(TENANT) as connection:
            directory.ensure_tenant(connection, TENANT)
        file = Path(folder) / "people.csv"
        write(file, chosen.rows)
        print(f"{chosen.rows:,} rows, {file.stat().st_size / 2**20:.0f} MiB\n")
        print("| rows are | time | rows a second | CPU of the command | its memory |\n| --- | --- | --- | --- | --- |")
        for words in ("new", "there")[: 1 + chosen.again]:
            told = measure(file)
            cells = f"{told.seconds:.0f} s | {chosen.rows / told.seconds:,.0f} | {told.cpu_s:.0f} s"
            print(f"| {words} | {cells} | {told.most_mib:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
