"""One log for all parts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from rich.panel import Panel

from shared.joint_log import MAX_WAITING_LINES, JointLog, use_colour, visible
from tests.eventually import eventually

PIPE_BYTES = 65_536


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("environment", "is_terminal", "coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
    ],
)
def test_colour_follows_the_terminal_and_the_two_conventions(
    environment: dict[str, str], is_terminal: bool, coloured: bool
) -> None:
    assert use_colour(environment, is_terminal) is coloured


def test_a_line_stands_behind_its_parts_name(pipe: tuple[int, int]) -> None:
    log = JointLog(pipe[1])
    log.line("api", "started")
    log.line("maintenance", "started")
    log.close()
    assert os.read(pipe[0], PIPE_BYTES).decode() == "        api │ started\nmaintenance │ started\n"


def test_each_part_keeps_a_colour_of_its_own(pipe: tuple[int, int]) -> None:
    log = JointLog(pipe[1], colour=True)
    for part in ("api", "beat", "api"):
        log.line(part, "told")
    log.close()
    first, second, third = os.read(pipe[0], PIPE_BYTES).decode().splitlines()
    assert first.startswith("\x1b[36m")
    assert second.startswith("\x1b[35m")
    assert third == first


def test_a_part_cannot_forge_a_line_or_move_the_cursor(pipe: tuple[int, int]) -> None:
    assert visible("a\tb\r\n\x1b[2Jc\x9b1m") == "a\tb\\x0d\\x0a\\x1b[2Jc\\x9b1m"


def test_a_panel_is_plain_without_colour(pipe: tuple[int, int]) -> None:
    log = JointLog(pipe[1])
    log.show(Panel("here", title="Carillon", expand=False))
    log.close()
    told = os.read(pipe[0], PIPE_BYTES).decode()
    assert "here" in told
    assert "\x1b" not in told


def test_a_log_that_nobody_reads_holds_up_nobody_and_says_what_it_dropped(pipe: tuple[int, int]) -> None:
    log = JointLog(pipe[1])
    # Twice as many as may wait: the pipe itself takes some 3,000.
    for _ in range(2 * MAX_WAITING_LINES):
        log.line("api", "unread")
    log.close()
    os.set_blocking(pipe[0], False)
    seen: list[bytes] = []

    def dropped_is_told() -> bool:
        log.line("api", "again")
        try:
            seen.append(os.read(pipe[0], 1_000_000))
        except BlockingIOError:
            return False
        return b"lines were dropped" in b"".join(seen)

    eventually(dropped_is_told)


def test_a_log_whose_reader_left_does_not_stop_the_parts() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = JointLog(writer)
    log.line("api", "unread")
    log.close()
    log.line("api", "unread")
    log.close()
    os.close(writer)
