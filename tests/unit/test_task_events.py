"""What Flower is told: everything of so many tasks a second, faults as well, and no text of anybody."""

from __future__ import annotations

from shared.wake import CHUNK_TASK
from workers.app import told_args
from workers.task_events import MOST_OPEN, Sampler, without_texts

RECEIVED, STARTED, SUCCEEDED, FAILED = "task-received", "task-started", "task-succeeded", "task-failed"


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_of_so_many_tasks_a_second_everything_is_told() -> None:
    clock = _Clock()
    sampler = Sampler(2, clock)
    told = []
    for second in range(3):
        clock.now = 100.0 + second
        told += [uuid for uuid in map(str, range(10 * second, 10 * second + 10)) if sampler.wants(RECEIVED, uuid)]
    assert told == ["0", "1", "10", "11", "20", "21"]
    assert [sampler.wants(STARTED, uuid) for uuid in ("0", "2", "10")] == [True, False, True]
    assert [sampler.wants(SUCCEEDED, uuid) for uuid in ("0", "2", "0")] == [True, False, False]


def test_a_quiet_time_does_not_pile_up() -> None:
    clock = _Clock()
    sampler = Sampler(2, clock)
    clock.now += 3600
    assert [sampler.wants(RECEIVED, str(number)) for number in range(4)] == [True, True, False, False]


def test_faults_are_told_of_tasks_that_were_not_chosen_but_not_a_storm_of_them() -> None:
    sampler = Sampler(2, _Clock())
    for number in range(5):
        sampler.wants(RECEIVED, str(number))
    assert [sampler.wants(FAILED, str(number)) for number in (4, 3, 2)] == [True, True, False]
    assert sampler.wants(FAILED, "0")


def test_tasks_that_never_end_are_forgotten_the_oldest_first() -> None:
    clock = _Clock()
    sampler = Sampler(MOST_OPEN + 1, clock)
    for number in range(MOST_OPEN + 1):
        sampler.wants(RECEIVED, str(number))
    assert [sampler.wants(STARTED, uuid) for uuid in ("0", "1")] == [False, True]


def test_no_event_is_told_where_none_is_wanted() -> None:
    sampler = Sampler(0, _Clock())
    assert [sampler.wants(kind, "1") for kind in (RECEIVED, STARTED, FAILED)] == [False] * 3


def test_neither_a_posted_event_nor_an_errors_words_are_shown() -> None:
    posted = {"name": "carillon.accept_event", "args": '(\'{"data": "secret"}\',)', "kwargs": "{}"}
    failed = {"exception": "ValueError('secret')", "traceback": "… secret"}
    assert "secret" not in str([without_texts(RECEIVED, posted), without_texts(FAILED, failed)])
    assert without_texts(FAILED, failed) == {"exception": "ValueError", "traceback": ""}


def test_arguments_are_told_in_words() -> None:
    assert told_args(CHUNK_TASK, (1234, 5)) == "event 1234, chunk 5"
    assert told_args("carillon.fan_out", ()) == ""
