"""How often a principal may ask: exactly the limit here, and nearly that of several processes together."""

from __future__ import annotations

import pytest
from limits import RateLimitItemPerMinute

from api.rates import MOST_COUNTED, Rate
from shared.errors import TooManyRequests


class Clock:
    """Unix time that a test turns."""

    def __init__(self, now: float = 600.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_exactly_the_limit_gets_through_in_a_minute_and_again_in_the_next() -> None:
    clock = Clock(610.0)
    rate = Rate(RateLimitItemPerMinute(3), clock)
    assert [rate.over("ada") for _ in range(5)] == [None, None, None, 50, 50]
    assert rate.over("bob") is None
    clock.now = 659.5
    assert rate.over("ada") == 1
    clock.now = 660.0
    assert rate.over("ada") is None
    with pytest.raises(TooManyRequests) as refused:
        for _ in range(3):
            rate.require("ada")
    assert refused.value.retry_after == 60


def test_what_others_counted_counts_here_and_is_not_told_twice() -> None:
    rate = Rate(RateLimitItemPerMinute(100), Clock())
    rate.over("ada")
    assert rate.untold() == []
    for _ in range(9):
        rate.over("ada")
    ((name, count, grown),) = rate.untold()
    assert (name.startswith("LIMITER/ada/10/"), grown) == (True, 10)
    count.told, count.others = 10, 85
    assert rate.untold() == []
    assert [rate.over("ada") is None for _ in range(6)] == [True] * 5 + [False]


def test_names_in_redis_keep_principals_apart_whatever_they_are_called() -> None:
    rate = Rate(RateLimitItemPerMinute(1), Clock())
    for who in ("a/b", "a%2Fb", "a/b/10", "a:b"):
        rate.over(who)
    assert len({name for name, _, _ in rate.untold()}) == 4


def test_the_principals_that_are_counted_are_bounded() -> None:
    rate = Rate(RateLimitItemPerMinute(1), Clock())
    for number in range(MOST_COUNTED + 10):
        rate.over(str(number))
    assert rate.over(str(MOST_COUNTED + 9)) is not None
    assert rate.over("0") is None
    assert len(rate.untold()) == MOST_COUNTED
