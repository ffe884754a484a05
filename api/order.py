"""Where one stream stands in its inbox's numbering, and what it does with a frame that comes: pure, it sends nothing.

Each change is let through once, in order. A frame beyond the next one waits for its predecessor for a moment; if that
does not come, the way is read from PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from shared.cursor import Cursor

#: Frames that may wait for a predecessor: two workers publish out of order by a few at most; more is a loss.
MAX_HELD = 16
#: Frames, and bytes, that may come while the stream's way is read from PostgreSQL (some 10 ms). More is forgotten and
#: the read is done once more.
MAX_KEPT = 256
MAX_KEPT_BYTES = 1024 * 1024


class State(Enum):
    """What a stream does with the next frame."""

    #: Nothing is held: the frame after the mark goes out.
    LIVE = auto()
    #: Frames wait for their predecessor.
    HOLDING = auto()
    #: The way from the mark is being read: all frames are kept until it is told.
    READING = auto()
    #: The way must be read, and cannot be yet: frames are dropped, as the read will tell them.
    BEHIND = auto()


class Verdict(Enum):
    """What became of a frame; every one but NEXT is counted by the hub."""

    #: It is next: write it, then whatever `released()` gives.
    NEXT = auto()
    #: The stream had it already.
    LATE = auto()
    #: It waits for its predecessor, or for the end of a read.
    HELD = auto()
    #: It shows a hole that waiting will not fill: the way must be read.
    HOLE = auto()
    #: It was forgotten: a read that is due tells it.
    UNTOLD = auto()


class Order:
    """One stream's mark and the frames that wait for it. It begins READING, with no mark."""

    __slots__ = ("_again", "_bytes", "_held", "epoch", "mark", "state")

    def __init__(self) -> None:
        self.epoch = 0
        self.mark = -1
        self.state = State.READING
        self._held: dict[int, tuple[int, bytes]] | None = None
        self._bytes = 0
        self._again = False

    @property
    def cursor(self) -> Cursor:
        """The last change that the stream has."""
        return Cursor(self.epoch, self.mark)

    def passes(self, frame: bytes) -> bool:
        """Return True, and move the mark, for the usual frame: nothing waits, and it begins with the id that is next.

        False decides nothing: `take` must. Comparing the id's bytes costs a third of parsing them.
        """
        if self.state is not State.LIVE or not frame.startswith(b"id: %d-%d\n" % (self.epoch, self.mark + 1)):
            return False
        self.mark += 1
        return True

    def follows(self, epoch: int, seq: int) -> bool:
        """As `passes`, of a frame whose id is known."""
        if self.state is not State.LIVE or seq != self.mark + 1 or epoch != self.epoch:
            return False
        self.mark = seq
        return True

    def take(self, cursor: Cursor, frame: bytes) -> Verdict:
        """Decide about one live frame; NEXT moves the mark to it."""
        if self.state is State.READING:
            return self._keep(cursor, frame)
        if self.state is State.BEHIND:
            return Verdict.UNTOLD
        if cursor.epoch != self.epoch:
            return Verdict.HOLE
        if cursor.seq <= self.mark:
            return Verdict.LATE
        if cursor.seq == self.mark + 1:
            self.mark = cursor.seq
            return Verdict.NEXT
        return self._hold(cursor, frame)

    def _hold(self, cursor: Cursor, frame: bytes) -> Verdict:
        held = self._held = self._held or {}
        held[cursor.seq] = (cursor.epoch, frame)
        self.state = State.HOLDING
        return Verdict.HELD if len(held) <= MAX_HELD else Verdict.HOLE

    def _keep(self, cursor: Cursor, frame: bytes) -> Verdict:
        held = self._held = self._held or {}
        if len(held) >= MAX_KEPT or self._bytes + len(frame) > MAX_KEPT_BYTES:
            self._forget()
            self._again = True
        if self._again:
            return Verdict.UNTOLD
        self._bytes += len(frame)
        held[cursor.seq] = (cursor.epoch, frame)
        return Verdict.HELD

    def _forget(self) -> None:
        self._held, self._bytes = None, 0

    def released(self) -> Iterator[bytes]:
        """Give, after a NEXT, the held frames that follow it without a gap; LIVE again once none is left."""
        while self._held and self.mark + 1 in self._held:
            self.mark += 1
            yield self._held.pop(self.mark)[1]
        if self.state is State.HOLDING and not self._held:
            self._forget()
            self.state = State.LIVE

    def read(self) -> None:
        """A read begins that will tell everything up to now: what is held is told by it."""
        self._forget()
        self._again = False
        self.state = State.READING

    def fall_behind(self) -> None:
        """The way cannot be read now: drop what comes until it is."""
        self._forget()
        self._again = False
        self.state = State.BEHIND

    def told(self, head: Cursor) -> tuple[list[bytes], bool]:
        """The stream was told everything up to `head`: go on from there.

        Returns the frames to write now, of those that came meanwhile, and whether another read is needed at once.
        """
        self.epoch, self.mark, self.state = head.epoch, head.seq, State.LIVE
        held, again = self._held or {}, self._again
        self._forget()
        self._again = False
        frames: list[bytes] = []
        for seq, (epoch, frame) in sorted(held.items()):
            verdict = self.take(Cursor(epoch, seq), frame)
            if verdict is Verdict.NEXT:
                frames.append(frame)
            again = again or verdict is Verdict.HOLE
        return frames, again
