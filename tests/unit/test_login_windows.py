"""Which failed logins belong together: exact cases, and what holds for every order and every way to cut it up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import catalog
from shared.failed_logins import TOLD
from shared.login_windows import (
    MAX_ADDRESSES,
    Failure,
    Placed,
    Rule,
    Window,
    data_of,
    event_id,
    opened,
    place,
    told_time,
)

NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)
LENGTH = timedelta(minutes=15)
RULE = Rule(3, LENGTH)


def at(minute: float, key: int = 0, ip: str | None = None) -> Failure:
    return Failure(key or round(minute * 1000), NINE + timedelta(minutes=minute), ip, None)


def starts(placed: Placed) -> list[tuple[float, int]]:
    """Return the new windows as (minute, failures)."""
    return [((window.started_at - NINE) / timedelta(minutes=1), window.failures) for window in placed.opened]


def minutes(failures: Iterable[Failure]) -> list[float]:
    return [(failure.at - NINE) / timedelta(minutes=1) for failure in failures]


class Store:
    """An account's windows as the job stores them, counted batch by batch."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.kept: list[Failure] = []

    def count(self, failures: Iterable[Failure]) -> Placed:
        placed = place(self.windows, [*self.kept, *failures], RULE)
        grown = {window.started_at: window for window in placed.grown}
        self.windows = [grown.get(window.started_at, window) for window in self.windows] + placed.opened
        self.kept = placed.kept
        return placed

    def told(self) -> list[tuple[float, int]]:
        return sorted(((window.started_at - NINE) / timedelta(minutes=1), window.failures) for window in self.windows)


def counted(batches: Iterable[Sequence[Failure]]) -> Store:
    store = Store()
    for batch in batches:
        store.count(batch)
    return store


def test_the_third_within_the_window_opens_it_where_the_first_was() -> None:
    store = counted([[at(0)], [at(7)]])
    assert store.windows == []
    assert starts(store.count([at(14.9)])) == [(0, 3)]
    assert store.kept == []


def test_the_windows_end_belongs_to_the_next_one() -> None:
    store = counted([[at(0)], [at(7)], [at(15)]])
    assert (store.windows, minutes(store.kept)) == ([], [0, 7, 15])
    store.count([at(16), at(17)])
    assert (store.told(), minutes(store.kept)) == ([(15, 3)], [0, 7])


def test_later_ones_of_the_window_are_counted_in_it_and_the_next_window_begins_after_it() -> None:
    store = counted([[at(0), at(1), at(2)], [at(14)], [at(15)], [at(16), at(29)]])
    assert store.told() == [(0, 4), (15, 3)]


def test_backwards_one_by_one_they_make_the_window_of_the_earliest_three_and_the_rest_join_it() -> None:
    """The start names the event, so it stands; what comes later from before it is told in the same notification."""
    store = counted([[at(minute)] for minute in (4, 3, 2, 1, 0)])
    assert store.told() == [(2, 5)]
    assert store.windows[0].first_at == NINE


def test_late_ones_do_not_join_a_window_that_theirs_would_not_have_reached() -> None:
    store = counted([[at(0), at(10)], [at(16), at(17), at(18)]])
    assert (store.told(), minutes(store.kept)) == ([(16, 3)], [0, 10])
    store.count([at(9)])
    assert store.told() == [(0, 3), (16, 3)]


def test_three_late_ones_before_a_window_join_it_instead_of_ringing_twice() -> None:
    store = counted([[at(10), at(11), at(12)], [at(0), at(1), at(2)]])
    assert store.told() == [(10, 6)]


def test_a_threshold_of_one_is_told_at_once() -> None:
    placed = place([], [at(0), at(1)], Rule(1, LENGTH))
    assert starts(placed) == [(0, 2)]


def test_a_window_knows_its_addresses_the_latest_last_and_the_last_failures_own() -> None:
    window = opened([at(0, ip="a"), at(1, ip="b"), at(2, ip="a"), at(3)])
    assert (window.addresses, window.ip) == (("b", "a"), None)
    late = window.joined([at(0.5, ip="c")])
    assert (late.addresses, late.ip, late.failures, late.last_at) == (("b", "a", "c"), None, 5, window.last_at)
    assert window.joined([at(9, ip="d")]).ip == "d"


def test_a_botnet_is_counted_up_to_a_bound_and_the_latest_are_known() -> None:
    window = opened([at(number / 1000, key=number + 1, ip=f"ip{number}") for number in range(1_000)])
    told = data_of("ada", window)
    assert (window.failures, told["address_count"], len(told["addresses"])) == (1_000, MAX_ADDRESSES, 10)
    assert told["addresses"][:2] == ["ip999", "ip998"]


def test_what_is_told_fits_the_catalog_with_and_without_what_producers_may_leave_out() -> None:
    kind = catalog().get(TOLD)
    assert kind is not None
    full = opened([Failure(1, NINE, "::1", "curl"), Failure(2, NINE + timedelta(seconds=90), "::2", "")])
    assert data_of("ada", full) == {
        "account_id": "ada",
        "failures": 2,
        "window_start": "2026-03-01T09:00:00Z",
        "first_failure": "2026-03-01T09:00:00Z",
        "last_failure": "2026-03-01T09:01:30Z",
        "ip": "::2",
        "user_agent": "",
        "addresses": ["::2", "::1"],
        "address_count": 2,
    }
    long = opened([Failure(key, NINE, f"{key:02}".ljust(500, "i"), "u" * 4_000) for key in range(20)])
    bare = opened([Failure(1, NINE, None, None)])
    assert kind.errors(data_of("ada", full)) == kind.errors(data_of("a" * 200, bare)) == ()
    assert kind.errors(data_of("ada", long)) == ()


def test_an_events_id_is_the_account_and_the_start_and_never_too_long() -> None:
    assert event_id("ada", NINE) == "ada:2026-03-01T09:00:00Z"
    ids = {event_id("a" * 199 + last, NINE + timedelta(microseconds=1)) for last in "xy"}
    assert {len(id) for id in ids} == {200}
    assert len(ids) == 2
    assert told_time(NINE.astimezone()) == "2026-03-01T09:00:00Z"


TIMES = st.lists(st.integers(0, 90), min_size=1, max_size=30)


def _failures(times: Sequence[int]) -> list[Failure]:
    return [at(minute, key=number + 1) for number, minute in enumerate(times)]


def _cut(failures: Sequence[Failure], sizes: Sequence[int]) -> list[Sequence[Failure]]:
    batches, rest = [], failures
    for size in sizes:
        batches.append(rest[:size])
        rest = rest[size:]
    return [batch for batch in [*batches, rest] if batch]


@given(TIMES, st.lists(st.integers(1, 5), max_size=10))
def test_in_order_it_is_the_same_however_it_is_cut_into_batches(times: list[int], sizes: list[int]) -> None:
    ordered = _failures(sorted(times))
    assert counted(_cut(ordered, sizes)).told() == counted([ordered]).told()


@given(TIMES, st.lists(st.integers(1, 5), max_size=10))
def test_in_any_order_each_is_counted_once_and_windows_never_overlap(times: list[int], sizes: list[int]) -> None:
    store = counted(_cut(_failures(times), sizes))
    assert sum(window.failures for window in store.windows) + len(store.kept) == len(times)
    assert len({failure.event_key for failure in store.kept}) == len(store.kept)
    begins = sorted(window.started_at for window in store.windows)
    assert all(later - earlier >= LENGTH for earlier, later in pairwise(begins))
    assert all(window.failures >= RULE.threshold for window in store.windows)


@given(st.permutations([0, 1, 2]), st.lists(st.integers(0, 14), min_size=3, max_size=12))
def test_whatever_happens_within_one_window_rings_once(order: list[int], times: list[int]) -> None:
    shuffled = [failure for place in order for failure in _failures(times)[place::3]]
    store = counted([[failure] for failure in shuffled])
    assert [failures for _, failures in store.told()] == [len(times)]
