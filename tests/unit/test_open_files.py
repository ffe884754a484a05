"""The limit of open files, in a process of its own: it cannot be raised again once it was lowered."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from shared.open_files import RESERVED

PROGRAM = """
import resource, sys
soft, hard, streams = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from shared.open_files import room_for
print(room_for(streams), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "streams", "expected"),
    [
        (256, 4_096, 2_000, (2_000, 2_000 + RESERVED, 4_096)),
        (4_000, 4_096, 2_000, (2_000, 4_000, 4_096)),
        (256, 1_024, 2_000, (1_024 - RESERVED, 1_024, 1_024)),
        (256, 300, 2_000, (1, 300, 300)),
    ],
)
def test_the_limit_is_raised_as_far_as_it_goes_and_no_more_streams_are_taken_than_fit(
    soft: int, hard: int, streams: int, expected: tuple[int, int, int]
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(streams)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert tuple(map(int, done.stdout.splitlines()[-1].split())) == expected
    assert ("hub.few_files" in done.stdout + done.stderr) is (expected[0] < streams)


def test_this_process_may_have_so_many_files_that_the_above_can_be_tried() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 4_096
