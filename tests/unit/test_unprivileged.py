"""What a server's own user lacks, and what it is given for that."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import launch
from shared.unprivileged import launched, needed_capability


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may search, up to the root (pytest's own are private)."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def program(folder: Path) -> Path:
    file = folder / "program"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def test_nothing_is_given_where_every_folder_is_open(program: Path, folder: Path) -> None:
    assert needed_capability(program, folder / "data") is None


@pytest.mark.parametrize(("permitted", "given"), [({"search", "override"}, "search"), ({"override"}, "override")])
def test_a_closed_folder_above_needs_searching(
    program: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, permitted: set[str], given: str
) -> None:
    monkeypatch.setattr(launch, "permitted_capabilities", lambda: frozenset(permitted))
    folder.chmod(0o700)
    assert needed_capability(program, folder / "data") == given


def test_a_program_that_others_may_not_run_needs_the_override(program: Path, folder: Path) -> None:
    program.chmod(0o700)
    assert needed_capability(program, folder / "data") == "override"


def test_a_launched_program_is_the_very_process_that_was_started() -> None:
    command = launched([sys.executable, "-c", "import os; print(os.getpid())"], death_signal=signal.SIGKILL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid


def test_a_program_whose_parent_is_gone_already_does_not_start() -> None:
    command = launched(["/bin/echo", "started"], death_signal=signal.SIGKILL)
    orphaned = [word if not word.startswith("--parent=") else "--parent=1" for word in command]
    ended = subprocess.run(orphaned, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")


def test_a_program_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    ended = subprocess.run(
        launched([missing], death_signal=signal.SIGKILL), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == f"{missing}: [Errno 2] No such file or directory\n"
