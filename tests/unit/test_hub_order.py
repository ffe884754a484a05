"""A stream's order: each change once, without gaps, whatever comes when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.order import MAX_HELD, MAX_KEPT, MAX_KEPT_BYTES, Order, State, Verdict
from shared.cursor import Cursor


def live_at(seq: int, epoch: int = 1) -> Order:
    order = Order()
    assert order.told(Cursor(epoch, seq)) == ([], False)
    return order


def take(order: Order, seq: int, epoch: int = 1, frame: bytes | None = None) -> Verdict:
    return order.take(Cursor(epoch, seq), frame if frame is not None else b"%d" % seq)


def test_the_next_frame_moves_the_mark() -> None:
    order = live_at(4)
    assert take(order, 5) is Verdict.NEXT
    assert order.cursor == Cursor(1, 5)
    assert order.state is State.LIVE


def test_a_frame_at_or_below_the_mark_is_late() -> None:
    order = live_at(4)
    assert [take(order, seq) for seq in (4, 3, 0)] == [Verdict.LATE] * 3
    assert order.cursor == Cursor(1, 4)


def test_frames_beyond_the_next_wait_and_follow_it_in_order() -> None:
    order = live_at(0)
    assert [take(order, seq) for seq in (3, 2, 5)] == [Verdict.HELD] * 3
    assert order.state is State.HOLDING
    assert take(order, 1) is Verdict.NEXT
    assert list(order.released()) == [b"2", b"3"]
    assert (order.mark, order.state) == (3, State.HOLDING)
    assert take(order, 4) is Verdict.NEXT
    assert list(order.released()) == [b"5"]
    assert (order.mark, order.state) == (5, State.LIVE)


def test_one_frame_more_than_may_wait_is_a_hole() -> None:
    order = live_at(0)
    verdicts = [take(order, seq) for seq in range(2, MAX_HELD + 3)]
    assert verdicts == [Verdict.HELD] * MAX_HELD + [Verdict.HOLE]


def test_the_same_frame_held_twice_counts_once() -> None:
    order = live_at(0)
    assert {take(order, 2) for _ in range(MAX_HELD + 5)} == {Verdict.HELD}


def test_a_frame_of_another_epoch_is_a_hole_and_is_never_told() -> None:
    order = live_at(4)
    assert take(order, 5, epoch=2) is Verdict.HOLE
    assert order.cursor == Cursor(1, 4)


def test_what_comes_during_a_read_is_told_after_it_less_what_the_read_told() -> None:
    order = live_at(0)
    order.read()
    assert [take(order, seq) for seq in (3, 1, 2, 4)] == [Verdict.HELD] * 4
    assert order.told(Cursor(1, 2)) == ([b"3", b"4"], False)
    assert (order.mark, order.state) == (4, State.LIVE)


def test_a_gap_that_is_left_after_a_read_waits_for_its_frame() -> None:
    order = live_at(0)
    order.read()
    take(order, 5)
    assert order.told(Cursor(1, 3)) == ([], False)
    assert order.state is State.HOLDING
    assert take(order, 4) is Verdict.NEXT
    assert list(order.released()) == [b"5"]


def test_what_was_held_before_a_read_is_told_by_it() -> None:
    order = live_at(0)
    take(order, 9)
    order.read()
    assert order.told(Cursor(1, 3)) == ([], False)
    assert order.state is State.LIVE


def test_more_frames_than_are_kept_during_a_read_ask_for_another() -> None:
    order = live_at(0)
    order.read()
    verdicts = [take(order, seq) for seq in range(1, MAX_KEPT + 3)]
    assert verdicts == [Verdict.HELD] * MAX_KEPT + [Verdict.UNTOLD] * 2
    assert order.told(Cursor(1, 1)) == ([], True)


def test_more_bytes_than_are_kept_during_a_read_ask_for_another() -> None:
    order = live_at(0)
    order.read()
    assert take(order, 1, frame=b"x" * MAX_KEPT_BYTES) is Verdict.HELD
    assert take(order, 2, frame=b"x") is Verdict.UNTOLD
    assert order.told(Cursor(1, 1)) == ([], True)


def test_a_frame_of_a_new_epoch_during_a_read_asks_for_another() -> None:
    order = live_at(0)
    order.read()
    take(order, 1, epoch=2)
    assert order.told(Cursor(1, 0)) == ([], True)


def test_a_stream_that_is_behind_drops_what_its_read_will_tell() -> None:
    order = live_at(0)
    order.fall_behind()
    assert take(order, 1) is Verdict.UNTOLD
    order.read()
    assert order.told(Cursor(1, 1)) == ([], False)
    assert take(order, 2) is Verdict.NEXT


@given(st.permutations(range(1, 12)), st.lists(st.integers(1, 11), max_size=10))
def test_any_order_of_frames_with_repeats_is_told_once_and_ascending(order: list[int], again: list[int]) -> None:
    stream = live_at(0)
    told: list[int] = []
    for seq in [*order, *again]:
        if take(stream, seq) is Verdict.NEXT:
            told.append(seq)
            told.extend(int(frame) for frame in stream.released())
    assert told == list(range(1, 12))
    assert stream.state is State.LIVE
