"""A client with a stream: it holds the stream to its promises and keeps its copy by the rule alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shared.cursor import Cursor, parse_cursor
from tests.law.model import Copy
from tests.law.wire import Wire
from tests.listener import Frame

#: A hole of a live stream was filled: a publish was lost.
REPAIRED = "repaired"


class Home(Protocol):
    """The inbox, as far as a client needs it."""

    def stream(self, last_event_id: str | None = None, snapshot: bool = False) -> Wire:
        """Return a new stream, asked for and not yet answered."""

    def page(self) -> Copy:
        """Return the whole inbox, fetched now."""

    def shown(self, frame: Frame) -> None:
        """Hold a page that came with the stream to one fetched now."""

    def replayed(self, copy: Copy) -> Copy:
        """Return the copy after `/changes` since its mark."""

    def heard(self, what: str) -> None:
        """A stream told this: the kind of a change, or the frame's event."""

    def remember(self, copy: Copy) -> None:
        """The copy is what a page would have told at its mark."""


class Device:
    """One client. Without a stream it keeps its copy and hears nothing."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._wire: Wire | None = None
        self._at = -1
        self._presented: str | None = None
        self._with_page = False
        #: The opening is over: the copy is whole up to its mark.
        self._begun = False
        self.copy: Copy | None = None
        self.resets = 0
        self.frames = 0

    @property
    def connected(self) -> bool:
        """Whether it has a stream."""
        return self._wire is not None

    def connect(self, copy: Copy | None, last_event_id: str | None = None, *, snapshot: bool = False) -> None:
        """Ask for a stream and wait for nothing. `copy`: what the client has at the cursor that it presents."""
        self.disconnect()
        self.copy, self._presented, self._begun, self._at = copy, last_event_id, False, -1
        self._with_page, self.resets = snapshot, 0
        self._wire = self._home.stream(last_event_id, snapshot)

    def disconnect(self) -> None:
        """Cut the stream. What it told and was not read is lost."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def opened(self) -> None:
        """Read until the opening is over: the page is there, or the replay is told."""
        self._read(lambda: self._begun)

    def follow(self, head: Cursor) -> Copy:
        """Read until everything up to `head` is told, and return the copy."""
        assert self._wire is not None
        self._read(lambda: self._begun and self._at >= head.seq)
        for frame in self._wire.waiting():
            self._take(frame)
        assert self.copy is not None
        return self.copy

    def cut_after(self, frames: int) -> None:
        """Read so many frames with an id at most, cut the stream there, and resume it from the last one."""
        assert self._wire is not None
        until = self.frames + frames
        self._read(lambda: self._begun or self.frames >= until)
        copy = self.copy
        assert copy is not None
        self.connect(copy, str(copy.mark))

    def _read(self, enough: Callable[[], bool]) -> None:
        assert self._wire is not None
        while not enough():
            self._take(self._wire.next())

    def _take(self, frame: Frame) -> None:
        assert frame.id is not None, frame
        self.frames += 1
        self._home.heard(frame.data.get("reason", frame.kind))
        _TAKEN[frame.event](self, frame)

    def _connected(self, frame: Frame) -> None:
        assert self._at == -1, "a stream begins once"
        head = frame.data["head"]
        ours = self._presented is not None and parse_cursor(self._presented) is not None
        assert frame.id == (self._presented if ours else head)
        self._at = frame.seq
        if self._presented is None:
            self.copy = self._home.page()
            self._begun = not self._with_page

    def _snapshot(self, frame: Frame) -> None:
        assert frame.seq == self._at, "the page is as of the cursor that the stream began with"
        self._home.shown(frame)
        self._begun = True

    def _reset(self, frame: Frame) -> None:
        self.resets += 1
        self._at = frame.seq
        self.copy, self._begun = self._home.page(), True

    def _changed(self, frame: Frame) -> None:
        live = frame.kind != "changed"
        if self._begun and not live:
            self._home.heard(REPAIRED)
        assert frame.data["prev"] == self._at, f"prev is broken: {frame.data['prev']} after {self._at}"
        assert frame.seq == self._at + 1 if live else frame.seq > self._at, f"{frame.id} after {self._at}"
        self._at = frame.seq
        self._apply(frame, lambda copy: copy.after(frame.data, frame.seq))
        if live and self.copy is not None and self.copy.mark.seq == frame.seq:
            assert (self.copy.unread, self.copy.unseen) == self.copy.counted(), f"badge and list disagree at {frame.id}"
            self._home.remember(self.copy)

    def _synced(self, frame: Frame) -> None:
        assert frame.data["prev"] == self._at, f"prev is broken: {frame.data['prev']} after {self._at}"
        assert frame.seq >= self._at
        assert frame.data["cursor"] == frame.id
        self._at, self._begun = frame.seq, True
        self._apply(frame, lambda copy: copy.synced(frame.data))

    def _apply(self, frame: Frame, applied: Callable[[Copy], Copy]) -> None:
        assert self.copy is not None
        follows = self.copy.follows(frame.data, frame.seq)
        if follows:
            self.copy = applied(self.copy)
        elif follows is None:
            self.copy = self._home.replayed(self.copy)


_TAKEN: dict[str, Callable[[Device, Frame], None]] = {
    "connected": Device._connected,
    "snapshot": Device._snapshot,
    "reset": Device._reset,
    "notification": Device._changed,
    "synced": Device._synced,
}
