"""The client's back-off, and its words: arithmetic alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from carillon_client import Event, Refused
from carillon_client.retry import LONGEST_PAUSE_S, pause_after


@pytest.mark.parametrize(
    ("tries", "asked", "chance", "pause"),
    [
        (1, None, 0.0, 0.1),
        (1, None, 1.0, 0.2),
        (3, None, 1.0, 0.8),
        (100, None, 1.0, LONGEST_PAUSE_S),
        (10**6, None, 0.0, LONGEST_PAUSE_S / 2),
        (1, "3", 1.0, 3.2),
        (1, "Wed, 21 Oct 2015 07:28:00 GMT", 1.0, 0.2),
        (1, "-3", 1.0, 0.2),
    ],
)
def test_pauses_double_up_to_a_bound_and_never_undercut_the_server(
    tries: int, asked: str | None, chance: float, pause: float
) -> None:
    assert pause_after(tries, asked, chance) == pytest.approx(pause)


def test_pauses_are_spread() -> None:
    assert len({pause_after(5) for _ in range(20)}) > 1


def test_an_event_is_told_without_what_it_lacks() -> None:
    event = Event("t", "acme", "/s", {"a": 1}, id="e1", time=datetime(2026, 3, 1, tzinfo=UTC))
    assert event.envelope() == {
        "specversion": "1.0", "id": "e1", "source": "/s", "type": "t", "tenant": "acme",
        "time": "2026-03-01T00:00:00+00:00", "data": {"a": 1},
    }  # fmt: skip
    assert Event("t", "acme", "/s", {}).id != Event("t", "acme", "/s", {}).id


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Event("t", "acme", "/s", {}, time=datetime(2026, 3, 1)).envelope()


def test_a_refusal_says_which_field_of_which_event_is_wrong_and_why() -> None:
    errors = [{"index": 2, "field": "data.badge_title", "message": "is required"}, {"field": "id", "message": "is bad"}]
    told = str(Refused(422, {"detail": "The batch is not valid.", "errors": errors}))
    assert told == "422 The batch is not valid. [2] data.badge_title is required; id is bad"
    assert str(Refused(502, {})) == "502"
