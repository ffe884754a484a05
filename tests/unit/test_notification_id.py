from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shared.notification_id import id_range, notification_id, time_prefix

MOMENT = datetime(2026, 3, 1, 12, 0, 0, 123_999, tzinfo=UTC)


def test_the_prefix_is_the_time_in_whole_milliseconds() -> None:
    assert time_prefix(MOMENT) == f"{1772366400123:012x}"


def test_an_id_is_a_uuid_of_version_8_and_the_rfc_variant() -> None:
    made = notification_id(time_prefix(MOMENT), 1, 2)
    assert (made.version, made.variant) == (8, "specified in RFC 4122")


def test_an_id_is_the_same_whenever_it_is_made_and_another_for_another_event_or_inbox() -> None:
    prefix = time_prefix(MOMENT)
    made = [notification_id(prefix, event, inbox) for event in range(1, 30) for inbox in range(1, 30)]
    assert made == [notification_id(prefix, event, inbox) for event in range(1, 30) for inbox in range(1, 30)]
    assert len(set(made)) == 29 * 29


def test_ids_of_a_later_millisecond_are_greater() -> None:
    later = time_prefix(MOMENT + timedelta(milliseconds=1))
    assert max(notification_id(time_prefix(MOMENT), 1, key) for key in range(100)) < min(
        notification_id(later, 1, key) for key in range(100)
    )


def test_all_ids_of_an_event_lie_in_its_range_and_none_of_its_neighbours_milliseconds() -> None:
    low, high = id_range(MOMENT)
    assert all(low <= notification_id(time_prefix(MOMENT), 7, key) <= high for key in range(1_000))
    for away in (-1, 1):
        other = time_prefix(MOMENT + timedelta(milliseconds=away))
        assert not low <= notification_id(other, 7, 1) <= high
