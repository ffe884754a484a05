"""`carillon recipients import` of long files: stopped and started again, with a report of what was rejected."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from shared import homes
from shared.cli import app, recipients
from shared.cli.console import INTERRUPTED, run
from tests import directory
from tests.directory import Row, count
from tests.eventually import eventually
from tests.servers import base_environment

ROWS = 250
#: Lines of the file whose row is wrong: what with which field.
WRONG = {4: "locale", 120: "id", 240: "locale"}
#: As a shell starts it in the foreground, also where the tests themselves run in the background and SIGINT is ignored.
UNDER_CTRL_C = """import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from shared.cli import main; main()"""
Database = psycopg.Connection[Row]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipients, "ROWS", 50)


@pytest.fixture
def db(db: Database) -> Database:
    directory.add_tenant(db, "acme")
    return db


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "people.csv"
    made.write_text("id,locale\n" + "".join(_line(number) for number in range(2, ROWS + 2)))
    return made


def _line(number: int) -> str:
    field = WRONG.get(number)
    return f"{'' if field == 'id' else f'p{number}'},{'no tag!' if field == 'locale' else 'en'}\n"


def start(file: Path, *more: str) -> int:
    return run(app, ["recipients", "import", str(file), "--tenant", "acme", *more])


def reported(file: Path) -> list[tuple[int, str]]:
    with file.with_name(file.name + ".rejected.csv").open(newline="") as stream:
        return [(int(row["line"]), row["field"]) for row in csv.DictReader(stream)]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Let the import be interrupted at its n-th piece; gives the sizes of the pieces that were begun."""

    def at(piece: int) -> list[int]:
        begun: list[int] = []
        store = homes.import_recipients

        def interrupted(rows: list[object]) -> object:
            begun.append(len(rows))
            if len(begun) == piece:
                raise KeyboardInterrupt
            return store(rows)

        monkeypatch.setattr(homes, "import_recipients", interrupted)
        return begun

    return at


def test_an_import_that_was_interrupted_goes_on_where_it_was(
    db: Database, file: Path, interrupt: Callable[[int], list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(4)
    assert start(file) == INTERRUPTED
    assert count(db, "recipients") == 148
    assert "Interrupted after line 151: the same command goes on there." in capsys.readouterr().err
    begun = interrupt(99)
    assert start(file) == 1
    told = capsys.readouterr()
    assert told.out == f"{ROWS - 3} recipients imported, 3 rows rejected.\n"
    assert "Going on after line 151." in told.err
    assert begun == [50, 50]
    assert count(db, "recipients") == ROWS - 3
    assert reported(file) == sorted(WRONG.items())
    assert [each.name for each in sorted(file.parent.iterdir()) if each.name.startswith("people")] == [
        "people.csv", "people.csv.rejected.csv",
    ]  # fmt: skip


def test_what_the_report_says_of_rows_that_were_not_stored_is_said_once(
    db: Database, file: Path, interrupt: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends between the report and the note of how far it is."""
    monkeypatch.setattr("shared.cli.import_state.State.keep", lambda _state: (_ for _ in ()).throw(KeyboardInterrupt))
    assert start(file) == INTERRUPTED
    assert reported(file) == [(4, "locale")]
    monkeypatch.undo()
    assert start(file) == 1
    assert reported(file) == sorted(WRONG.items())


def test_a_file_that_changed_or_an_import_that_is_to_begin_anew_begins_anew(
    db: Database, file: Path, interrupt: Callable[[int], list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(3)
    assert start(file) == INTERRUPTED
    begun = interrupt(2)
    assert start(file, "--anew") == INTERRUPTED
    assert begun == [50, 50]
    file.write_text(file.read_text() + "last,en\n")
    interrupt(99)
    assert start(file) == 1
    told = capsys.readouterr()
    assert "from the beginning" in told.err
    assert told.out == f"{ROWS - 2} recipients imported, 3 rows rejected.\n"
    assert reported(file) == sorted(WRONG.items())


def test_a_file_without_a_wrong_row_leaves_nothing_beside_it(db: Database, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("id\nada\n")
    file.with_name("people.csv.rejected.csv").write_text("of an earlier run\n")
    assert start(file) == 0
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("people")] == ["people.csv"]


def test_the_report_may_be_written_elsewhere(db: Database, file: Path, tmp_path: Path) -> None:
    report = tmp_path / "wrong.csv"
    assert start(file, "--report", str(report)) == 1
    assert len(report.read_text().splitlines()) == 4


def test_a_pipe_is_read_once_and_leaves_nothing_to_go_on_with(db: Database, tmp_path: Path, configured: object) -> None:
    pipe = tmp_path / "people.ndjson"
    os.mkfifo(pipe)
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'w').write('{{\"id\": \"ada\"}}\\n')"])
    assert start(pipe) == 0
    assert writer.wait(30) == 0
    assert count(db, "recipients") == 1
    assert not pipe.with_name("people.ndjson.progress.json").exists()


def test_ctrl_c_ends_the_command_with_a_sentence_and_it_goes_on(
    db: Database, tmp_path: Path, settings_env: dict[str, str]
) -> None:
    many = 30_000
    file = tmp_path / "people.csv"
    file.write_text("id\n" + "".join(f"p{number}\n" for number in range(many)))
    command = [sys.executable, "-c", UNDER_CTRL_C, "recipients", "import", str(file)]
    command += ["--tenant", "acme"]
    environment = {**base_environment(), **settings_env}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    eventually(lambda: count(db, "recipients") > 0, within=60)
    first.send_signal(signal.SIGINT)
    _, told = first.communicate(timeout=60)
    assert (first.returncode, "the same command goes on there" in told) == (INTERRUPTED, True)
    assert 0 < count(db, "recipients") < many
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (again.returncode, again.stdout) == (0, f"{many:,} recipients imported, 0 rows rejected.\n")
    assert count(db, "recipients") == many
