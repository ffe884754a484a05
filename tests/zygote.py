"""Starts the tests' processes by fork from one that has imported the product already: 0.2 s of processor, not 3 s.

The children are what `python -m uvicorn …` and `python -m celery …` would be: processes of their own, in sessions of
their own, with their own environment, that read their settings themselves. `tests/integration/test_up.py` starts the
product without this.

The zygote itself is `python -m tests.zygote`: it reads requests (one JSON object a line) from its standard input and
answers each with the child's pid; a child's exit code is written to the file that its request names.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import workers
from shared.catalog import catalog
from shared.launch import die_with
from shared.settings import PROJECT_ROOT, settings
from tests.eventually import eventually

#: How often ended children are looked for while nobody asks for new ones.
REAP_S = 0.02
#: It ends at once, unless others have the processor.
END_S = 60.0


class Forked:
    """A child of the zygote, with what the tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, exit_file: Path) -> None:
        self.pid = pid
        self._exit_file = exit_file

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal), None while it runs."""
        try:
            return int(self._exit_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    @property
    def returncode(self) -> int | None:
        """The same."""
        return self.poll()

    def wait(self, timeout: float) -> int:
        """Return the exit code once it has ended; fails after `timeout` seconds."""
        eventually(lambda: self.poll() is not None, within=timeout)
        code = self.poll()
        assert code is not None
        return code

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


class Zygote:
    """The tests' end of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"], cwd=PROJECT_ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def spawn(self, arguments: list[str], environment: dict[str, str], log: Path) -> Forked:
        """Start `python -m <arguments>` with just that environment, its output appended to `log`."""
        self._made += 1
        exit_file = self._folder / f"exit-{self._made}"
        request = {"arguments": arguments, "environment": environment, "log": str(log), "exit": str(exit_file)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        return Forked(int(self._process.stdout.readline()), exit_file)

    def stop(self) -> None:
        """End it; children that still run are killed by their death signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(END_S)
        self._process.stdout.close()


def _become(request: dict[str, Any]) -> None:
    """Turn this fork into the process that was asked for; never returns."""
    os.setsid()
    die_with(request["zygote"], signal.SIGKILL)
    os.environ.clear()
    os.environ.update(request["environment"])
    output = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    settings.cache_clear()
    sys.argv = list(request["arguments"])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _fork(request: dict[str, Any]) -> int:
    request["zygote"] = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _become(request)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap(exit_files: dict[int, Path]) -> None:
    while exit_files:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        exit_file = exit_files.pop(pid, None)
        if exit_file is not None:
            ready = exit_file.with_suffix(".part")
            ready.write_text(str(os.waitstatus_to_exitcode(status)))
            ready.rename(exit_file)


def serve() -> None:
    """Import the product, then fork on request until standard input ends."""
    heavy = ("uvicorn.protocols.http.httptools_impl", "uvloop", "celery.bin.celery", "celery.apps.worker", "api.app")
    for name in heavy:
        importlib.import_module(name)
    for module in pkgutil.iter_modules(workers.__path__, "workers."):
        importlib.import_module(module.name)
    catalog()
    exit_files: dict[int, Path] = {}
    while True:
        asked, _, _ = select.select([0], [], [], REAP_S)
        _reap(exit_files)
        if asked:
            line = os.read(0, 1 << 20)
            if not line:
                return
            for text in line.decode().splitlines():
                request = json.loads(text)
                pid = _fork(request)
                exit_files[pid] = Path(request["exit"])
                sys.stdout.write(f"{pid}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    serve()
