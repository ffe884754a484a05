"""What tells a worker whether its broker takes anything, by the kind of the broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from structlog.testing import capture_logs

from shared.broker import Probe
from shared.errors import StartError
from shared.settings import load_settings
from tests.eventually import eventually
from workers import broker, standby


@pytest.fixture(autouse=True)
def there() -> Iterator[None]:
    """The broker counts as being there before and after a test."""
    broker.away.clear()
    yield
    broker.away.clear()


def _use(monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    made = load_settings(broker_url=url)
    monkeypatch.setattr(standby, "settings", lambda: made)


def test_rabbitmq_is_asked_to_confirm_a_message_and_redis_to_keep_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, "amqp://guest:guest@rabbit//")
    asked = standby._question()
    assert isinstance(getattr(asked, "__self__", None), Probe)
    _use(monkeypatch, "redis://broker")
    asked = standby._question()
    assert isinstance(asked, partial)
    assert asked.func is standby._takes_messages
    _use(monkeypatch, "redis+socket:///run/redis.sock?virtual_host=2")
    asked = standby._question()
    assert isinstance(asked, partial)
    assert asked.args[0].connection_pool.connection_kwargs["path"] == "/run/redis.sock"
    assert asked.args[0].connection_pool.connection_kwargs["db"] == 2
    _use(monkeypatch, "sentinel://one:26379;sentinel://two:26379")
    assert standby._question()()
    _use(monkeypatch, None)
    with pytest.raises(StartError, match="CARILLON_BROKER_URL"):
        standby._question()


def test_what_the_first_question_raises_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def question() -> Callable[[], bool]:
        made.append(1)
        if len(made) == 1:
            raise ValueError
        return lambda: False

    stopping = threading.Event()
    monkeypatch.setattr(standby, "LOOK_S", 0.01)
    monkeypatch.setattr(standby, "_question", question)
    thread = threading.Thread(target=standby.watch, args=(standby._asked_first(), stopping))
    thread.start()
    try:
        eventually(broker.away.is_set, within=30)
    finally:
        stopping.set()
        thread.join(30)
    assert len(made) == 2


def test_two_answers_in_a_row_must_fail_and_one_brings_it_back() -> None:
    answers = iter([False, True, False, False, False, True])
    with capture_logs() as told:
        for _ in range(4):
            standby.look(lambda: next(answers))
    assert [line["event"] for line in told] == ["broker.away", "broker.back"]
    assert not broker.away.is_set()
    assert list(answers) == []


def test_the_brokers_return_is_seen_while_its_stand_in_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins that tasks of the same process send again: what they found was stamped, and left alone for 5 s."""
    begun, done, stopping = threading.Event(), threading.Event(), threading.Event()
    there: list[bool] = []

    def works(_name: str, _work: object) -> None:
        begun.set()
        done.wait()

    monkeypatch.setattr(standby, "LOOK_S", 0.01)
    monkeypatch.setattr(standby, "suspect_predecessors", lambda: None)
    monkeypatch.setattr(standby, "in_every_database", works)
    threads = [
        threading.Thread(target=standby.watch, args=(lambda: bool(there), stopping)),
        threading.Thread(target=standby.stand_by, args=(stopping,)),
    ]
    for thread in threads:
        thread.start()
    try:
        eventually(begun.is_set, within=30)
        assert broker.away.is_set()
        there.append(True)
        eventually(lambda: not broker.away.is_set(), within=30)
        assert threads[1].is_alive()
    finally:
        stopping.set()
        done.set()
        threads[0].join(30)
        broker.away.set()
        threads[1].join(30)
    assert [thread.is_alive() for thread in threads] == [False, False]
