"""Marks: archived implies read, read implies seen, and the counters follow by arithmetic."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inbox import Delta, Marks, Wish, delta_between

valid = st.sampled_from([Marks(s, r, a) for s, r, a in product((False, True), repeat=3) if a <= r <= s])
switches = st.sampled_from([None, True, False])
wishes = st.builds(Wish, st.sampled_from([None, True]), switches, switches)


@given(valid, wishes)
def test_a_wish_leads_to_marks_that_imply_each_other_or_is_refused(before: Marks, wish: Wish) -> None:
    after = wish.applied(before)
    if after is None:
        assert wish.read is False
        return
    assert after.archived <= after.read <= after.seen
    assert wish.read is None or after.read == wish.read
    assert wish.archived is None or after.archived == wish.archived


@given(valid, wishes)
def test_the_same_wish_again_changes_nothing(before: Marks, wish: Wish) -> None:
    after = wish.applied(before)
    assert after is None or wish.applied(after) == after


@pytest.mark.parametrize(
    ("before", "wish", "delta"),
    [
        (Marks(False, False, False), Wish(read=True), Delta(unread=-1, unseen=-1)),
        (Marks(True, False, False), Wish(read=True), Delta(unread=-1)),
        (Marks(True, True, False), Wish(read=False), Delta(unread=1)),
        (Marks(False, False, False), Wish(archived=True), Delta(unread=-1, unseen=-1, total=-1)),
        (Marks(True, True, True), Wish(archived=False), Delta(total=1)),
        (Marks(True, True, True), Wish(archived=False, read=False), Delta(unread=1, total=1)),
        (Marks(False, False, False), Wish(seen=True), Delta(unseen=-1)),
    ],
)
def test_counters_move_with_the_marks(before: Marks, wish: Wish, delta: Delta) -> None:
    after = wish.applied(before)
    assert after is not None
    assert delta_between(before, after) == delta


def test_an_archived_notification_cannot_be_unread() -> None:
    assert Wish(read=False).applied(Marks(True, True, True)) is None
