"""The law as a state machine: whatever happens to an inbox, a page and what is told after it are a fresh page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.cursor import Cursor
from tests.law.device import Device
from tests.law.inbox import MAX_CHANGES, Inbox, World
from tests.law.model import Copy, Notification, assert_same, cursor_of

#: Which of several: drawn without knowing how many there are, so that an example reads the same when it shrinks.
WHICH = st.integers(0, 7)
DEVICES = st.integers(0, 1)
KINDS = st.sampled_from(["plain", "short", "wide"])
WISHES = st.sampled_from(
    [
        {"read": True},
        {"read": False},
        {"seen": True},
        {"archived": True},
        {"archived": False},
        {"archived": False, "read": False},
        {"read": True, "seen": True, "archived": True},
    ]
)
#: Workers' tasks, which also run twice, out of turn, and without anything to do.
TASKS = st.sampled_from(
    [Inbox.fan_out, Inbox.run_all_chunks, Inbox.run_our_chunks, Inbox.run_their_chunks, Inbox.count_failures]
)
HOUSEKEEPING = st.sampled_from([Inbox.cap, Inbox.expire, Inbox.withdraw, Inbox.purge])
#: What a mark is called in a notification's JSON, and what it says when it is set.
_TIMES = {"read": "readAt", "seen": "seenAt", "archived": "archivedAt"}
#: Of the ways that one query tells, one of so many is asked for over HTTP as well.
CALLED_EACH = 4
_TOLD = re.compile(r"#e\d+#")


class Law(RuleBasedStateMachine):
    """One recipient with two devices. After every rule the law is checked along every way there is."""

    #: What was done in all examples together.
    counts: ClassVar[Counter[str]] = Counter()

    #: Where the inboxes are; set before the first example.
    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.inbox: Inbox = self.world.new_inbox()
        self.devices = [Device(self.inbox), Device(self.inbox)]
        self.fresh: Copy = self.inbox.page()
        #: The notification of each event, and the notifications that are gone: they never come back.
        self.told: dict[str, str] = {}
        self.gone: set[str] = set()
        #: The state after a mark that was set, as its answer told it.
        self.answered: dict[str, Any] | None = None
        self.checked: tuple[Cursor, int] | None = None
        self.turn = 0
        self.counts["examples"] += 1

    def teardown(self) -> None:
        """Let go of the connections."""
        for device in self.devices:
            device.disconnect()
        self.inbox.leave()

    # What happens

    @initialize(
        kinds=st.lists(KINDS, min_size=1, max_size=6),
        failures=st.integers(0, 5),
        listening=st.integers(0, 2),
        whole=st.booleans(),
    )
    def begin(self, kinds: list[str], failures: int, listening: int, whole: bool) -> None:
        """The inbox has something already, and so many devices have listened from the first on.

        Not `whole`: large events have reached this inbox, and the others not yet.
        """
        for device in self.devices[:listening]:
            device.connect(None)
        self.inbox.post(kinds, together=True)
        self.inbox.fan_out()
        self.inbox.run_our_chunks()
        if whole:
            self.inbox.run_their_chunks()
        if failures:
            self._fail(None, failures, work=3)

    @rule(kinds=st.lists(KINDS, min_size=1, max_size=4), together=st.booleans(), fan_out=st.booleans())
    def post(self, kinds: list[str], together: bool, fan_out: bool) -> None:
        self.inbox.post(kinds, together=together)
        if fan_out:
            self.inbox.fan_out()

    @rule(which=st.none() | WHICH, many=st.integers(1, 4), work=st.integers(0, 3))
    def fail_to_log_in(self, which: int | None, many: int, work: int) -> None:
        """Several events make one, and with the third of them one notification; its workers come so far."""
        self._fail(which, many, work)

    def _fail(self, which: int | None, many: int, work: int) -> None:
        accounts = self.inbox.logins.accounts
        self.inbox.fail(None if which is None or not accounts else self._chosen(accounts, which), many)
        for task in (Inbox.fan_out, Inbox.count_failures, Inbox.fan_out)[:work]:
            task(self.inbox)

    @rule(which=WHICH, many=st.integers(1, 2), twice=st.booleans())
    @precondition(lambda self: self.inbox.logins.ringing())
    def fail_again(self, which: int, many: int, twice: bool) -> None:
        """More of them change what the notification says, if it is there."""
        self.inbox.fail(self._chosen(self.inbox.logins.ringing(), which), many)
        self.inbox.fan_out()
        self.inbox.count_failures()
        if twice:
            self.inbox.count_failures()

    @rule(which=WHICH)
    @precondition(lambda self: self.inbox.events)
    def redeliver(self, which: int) -> None:
        self.inbox.redeliver(self._chosen(self.inbox.events, which))

    @rule(which=WHICH, withdraw=st.booleans())
    @precondition(lambda self: self.inbox.events)
    def cancel(self, which: int, withdraw: bool) -> None:
        self.inbox.cancel(self._chosen(self.inbox.events, which))
        if withdraw:
            self.inbox.withdraw()

    @rule(task=TASKS)
    def work(self, task: Callable[[Inbox], None]) -> None:
        task(self.inbox)

    @rule(job=HOUSEKEEPING)
    def keep_house(self, job: Callable[[Inbox], None]) -> None:
        job(self.inbox)

    @rule(which=WHICH, wish=WISHES)
    @precondition(lambda self: self.fresh.rows)
    def mark(self, which: int, wish: dict[str, bool]) -> None:
        """Whatever it changes; often nothing."""
        self._mark(self._chosen(self.fresh.newest_first(), which), wish)

    @rule(which=WHICH)
    @precondition(lambda self: self._rows(readAt=False))
    def read(self, which: int) -> None:
        self._mark(self._chosen(self._rows(readAt=False), which), {"read": True})

    @rule(which=WHICH)
    @precondition(lambda self: self._rows(readAt=True))
    def unread(self, which: int) -> None:
        self._mark(self._chosen(self._rows(readAt=True), which), {"read": False})

    @rule(which=WHICH)
    @precondition(lambda self: self._rows(seenAt=False))
    def see(self, which: int) -> None:
        self._mark(self._chosen(self._rows(seenAt=False), which), {"seen": True})

    @rule(which=WHICH)
    @precondition(lambda self: self._rows(archivedAt=False))
    def archive(self, which: int) -> None:
        self._mark(self._chosen(self._rows(archivedAt=False), which), {"archived": True})

    @rule(which=WHICH, wish=st.sampled_from([{"archived": False}, {"archived": False, "read": False}]))
    @precondition(lambda self: self._rows(archivedAt=True))
    def unarchive(self, which: int, wish: dict[str, bool]) -> None:
        self._mark(self._chosen(self._rows(archivedAt=True), which), wish)

    def _rows(self, **marks: bool) -> list[Notification]:
        """Return the notifications that have, or have not, these times, newest first."""
        wanted = marks.items()
        return [
            row
            for row in self.fresh.newest_first()
            if all((row[time] is not None) == is_set for time, is_set in wanted)
        ]

    def _mark(self, row: Notification, wish: dict[str, bool]) -> None:
        answer = self.inbox.mark(row["id"], wish)
        impossible = wish == {"read": False} and row["archivedAt"] is not None
        assert answer.status == (409 if impossible else 200), answer
        if not impossible:
            marks = {name: answer.told[time] is not None for name, time in _TIMES.items()}
            assert wish.items() <= marks.items(), (wish, marks)
            self.answered = answer.told

    @rule(which=WHICH)
    @precondition(lambda self: self.fresh.rows)
    def delete(self, which: int) -> None:
        self._delete(self._chosen(self.fresh.newest_first(), which)["id"])

    def _delete(self, id: str) -> None:
        assert self.inbox.delete(id).status == 200
        assert self.inbox.delete(id).status == 404

    @rule(which=WHICH, between=st.booleans())
    @precondition(lambda self: self.fresh.rows)
    def delete_purge_redeliver(self, which: int, between: bool) -> None:
        """The way by which a deleted notification could come back."""
        row = self._chosen(self.fresh.newest_first(), which)
        (event,) = (each for each in self.inbox.events if each.told in row["message"])
        self._delete(row["id"])
        if between:
            self.law()
        self.inbox.answered = None
        self.inbox.purge()
        self.inbox.redeliver(event)

    @rule(what=st.sampled_from(["read", "seen", "read-all"]), up_to=st.none() | WHICH)
    def mark_all(self, what: str, up_to: int | None) -> None:
        self.inbox.mark_all(what, self._bound(up_to))

    @rule(up_to=st.none() | WHICH)
    def delete_read(self, up_to: int | None) -> None:
        self.inbox.delete_read(self._bound(up_to))

    # How devices come and go

    @rule(device=DEVICES)
    def disconnect(self, device: int) -> None:
        self.devices[device].disconnect()

    @rule(device=DEVICES, snapshot=st.booleans())
    def connect_anew(self, device: int, snapshot: bool) -> None:
        """Without a cursor: the stream first, then the page."""
        self.devices[device].connect(None, snapshot=snapshot)

    @rule(device=DEVICES, which=st.none() | st.integers(0, 30))
    def resume(self, device: int, which: int | None) -> None:
        """With the cursor that it has, or with any that somebody ever had."""
        copy = self.devices[device].copy if which is None else self._known(which)
        self._resume(self.devices[device], copy or self.fresh)

    def _resume(self, device: Device, copy: Copy) -> None:
        expected = 0 if self.inbox.servable(copy.mark, self.fresh.mark) else 1
        device.connect(copy, str(copy.mark))
        device.opened()
        assert device.resets == expected, f"from {copy.mark} to {self.fresh.mark}, floor {self.inbox.floor}"

    @rule(device=DEVICES, which=st.integers(0, 30), frames=st.integers(1, 5))
    def resume_and_be_cut(self, device: int, which: int, frames: int) -> None:
        self.devices[device].connect(self._known(which), str(self._known(which).mark))
        self.devices[device].cut_after(frames)

    @rule(device=DEVICES, cursor=st.sampled_from(["future", "epoch", "foreign"]))
    def come_with_what_cannot_be_served(self, device: int, cursor: str) -> None:
        epoch, seq = self.fresh.mark
        told = {"future": f"{epoch}-{seq + 1}", "epoch": f"{epoch + 1}-{seq}", "foreign": "a-17"}[cursor]
        self.devices[device].connect(self.fresh, told)
        self.devices[device].opened()
        assert self.devices[device].resets == 1

    @rule(device=DEVICES, which=st.none() | st.integers(0, 30), what=st.sampled_from(["post", "read", "delete_read"]))
    def come_while_something_changes(self, device: int, which: int | None, what: str) -> None:
        """The stream is asked for, and the change is made before it is answered, or after, or meanwhile."""
        copy = None if which is None else self._known(which)
        self.devices[device].connect(copy, None if copy is None else str(copy.mark))
        if what == "post":
            self.inbox.post(["plain"], together=True)
            self.inbox.fan_out()
        elif what == "read":
            self.inbox.mark_all("read", None)
        else:
            self.inbox.delete_read(None)

    # The law

    @invariant()
    def law(self) -> None:
        """Everybody has what a page fetched now has, and every way from every cursor leads there."""
        self.counts["steps"] += 1
        fresh, before = self.inbox.page(), self.fresh
        self.fresh = fresh
        if self.inbox.answered is not None:
            assert self.inbox.answered == (str(fresh.mark), fresh.unread, fresh.unseen)
            self.inbox.answered = None
        if self.answered is not None:
            assert fresh.rows[self.answered["id"]].items() <= self.answered.items()
            self.answered = None
        assert (fresh.mark.seq == before.mark.seq) == (fresh == before), "a change has a seq, and a seq a change"
        self.counts["changes"] += fresh.mark != before.mark
        self._exactly_once(before)
        for number, device in enumerate(self.devices):
            if device.connected:
                assert_same(device.follow(fresh.mark), fresh, f"device {number}")
        if self.checked != (fresh.mark, self.inbox.floor):
            self.checked = (fresh.mark, self.inbox.floor)
            self._every_way(fresh)

    def _exactly_once(self, before: Copy) -> None:
        self.gone |= before.rows.keys() - self.fresh.rows.keys()
        assert not self.gone & self.fresh.rows.keys(), "a deleted notification came back"
        for id, row in self.fresh.rows.items():
            told = _TOLD.search(row["message"])
            assert told is not None
            assert self.told.setdefault(told[0], id) == id, "an event was told twice"
        for account in self.inbox.logins.accounts:
            shown = self.fresh.rows.get(self.told.get(account.name, ""))
            assert shown is None or shown["metadata"]["failures"] == account.told, "counted twice, or never"
        assert set(self.told) == {event.told for event in self.inbox.events if event.due}

    def _every_way(self, fresh: Copy) -> None:
        epoch, head = fresh.mark
        # Of those that can no longer be served, the nearest stands for all.
        first = max(0, self.inbox.floor - 1, head - MAX_CHANGES - 1)
        cursors = [Cursor(epoch, seq) for seq in range(first, head + 2)] + [Cursor(epoch + 1, head)]
        ways = dict(zip(cursors, self.inbox.ways(cursors), strict=True))
        for cursor, told in ways.items():
            assert told["reset"] == (not self.inbox.servable(cursor, fresh.mark)), (cursor, told, self.inbox.floor)
            assert cursor_of(told["cursor"]) == fresh.mark
            assert not (told["reset"] and told["changes"])
        for copy in self.inbox.known.values():
            if self.inbox.servable(copy.mark, fresh.mark):
                self._way(copy, ways, fresh)
        self._over_http(ways)
        self._stream(ways, fresh)

    def _over_http(self, ways: dict[Cursor, dict[str, Any]]) -> None:
        """Call `/changes` since some of the cursors, others each time."""
        self.turn += 1
        cursors = [cursor for number, cursor in enumerate(ways) if (number + self.turn) % CALLED_EACH == 0]
        assert self.inbox.changes(cursors) == [ways[cursor] for cursor in cursors]
        self.counts["calls"] += len(cursors)

    def _way(self, copy: Copy, ways: dict[Cursor, dict[str, Any]], fresh: Copy) -> None:
        """Go the way from one copy, and from each frame of it the way that a resumption there tells."""
        cut = copy
        for step in ways[copy.mark]["changes"]:
            seq = cursor_of(step["id"]).seq
            assert step["prev"] == cut.mark.seq < seq, "prev is broken"
            assert step["type"] == "changed"
            cut = cut.after(step, seq)
            assert_same(cut.replayed(ways[cut.mark]), fresh, f"the way from {copy.mark}, cut at {cut.mark},")
            self.counts["ways"] += 1
        assert_same(cut.synced(ways[copy.mark]), fresh, f"the way from {copy.mark}")
        self.counts["ways"] += 1

    def _stream(self, ways: dict[Cursor, dict[str, Any]], fresh: Copy) -> None:
        """Resume a real stream from one of the cursors, the next one each time."""
        copy = self._known(self.turn * 5)
        device = Device(self.inbox)
        device.connect(copy, str(copy.mark))
        try:
            assert_same(device.follow(fresh.mark), fresh, f"a stream resumed from {copy.mark}")
        finally:
            device.disconnect()
        # connected; then each step and synced, or reset.
        is_reset = not self.inbox.servable(copy.mark, fresh.mark)
        steps = 0 if is_reset else len(ways[copy.mark]["changes"])
        assert (device.resets, device.frames) == (int(is_reset), 2 + steps)
        self.counts["streams"] += 1
        self.counts["resets"] += device.resets

    # Choosing

    @staticmethod
    def _chosen(things: Any, which: int) -> Any:
        return things[which % len(things)]

    def _known(self, which: int) -> Copy:
        """Return what somebody once had: 0 is the latest."""
        seqs = sorted(self.inbox.known, reverse=True)
        return self.inbox.known[seqs[which % len(seqs)]]

    def _bound(self, which: int | None) -> Cursor | None:
        return None if which is None else self._known(which).mark
