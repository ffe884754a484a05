"""Telling events anew: whoever they reach now hears what they say now; a chunk's worth of inboxes a transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from shared import audience
from shared.errors import InvalidInput
from shared.following import trace_of
from shared.logs import log
from shared.settings import settings
from workers.chunks import chunk_size
from workers.prepare import Prepared, Row, prepare
from workers.publish import Message
from workers.reach import by_event, read_within
from workers.update import Texts, texts_of, update


@dataclass(frozen=True, slots=True)
class News:
    """A claimed event and the data that it has now, in its latest revision.

    `telling` is the revision of a round through a large audience that is under way, which is at `told_up_to`.
    """

    row: Row
    data: dict[str, Any]
    revision: int
    telling: int | None
    told_up_to: int

    @property
    def told(self) -> int:
        """The revision that is told once everybody has heard it: a round's is the one that it began with."""
        return self.telling or self.revision


class Telling(ABC):
    """Some events that say something else than before, locked, inside their transaction."""

    def __init__(self, connection: Connection, news: Sequence[News]) -> None:
        self._connection = connection
        # A round under way is gone on with alone.
        self._news = news if news[0].telling is None else news[:1]

    @abstractmethod
    def note_told(self, news: Sequence[News], *, tellable: bool = True) -> None:
        """Note that these are told to everybody; or that they cannot be, and are left until there is more to tell."""

    @abstractmethod
    def note_range(self, news: News, told_up_to: int) -> None:
        """Note how far a round is."""

    def tell(self) -> list[Message]:
        """Write what can be told, and return the frames to publish after the commit."""
        prepared = [event for number, news in enumerate(self._news) if (event := self._prepared(number, news))]
        if not prepared:
            return []
        bound = settings().chunk_size
        kept, found = read_within(self._connection, prepared, bound)
        if len(found) > bound or self._news[kept[0].place].telling is not None:
            return self._tell_range(kept[0])
        texts: Texts = {}
        for event, audience_of in by_event(kept, found):
            texts |= self._texts(event, audience_of) or {}
        self.note_told([self._news[event.place] for event in kept])
        return update(self._connection, texts)

    def _prepared(self, number: int, news: News) -> Prepared | None:
        try:
            return prepare({**news.row, "data": news.data}, number)
        except InvalidInput:
            self._give_up(news)
            return None

    def _texts(self, event: Prepared, audience_of: dict[int, tuple[int, Row]]) -> Texts | None:
        try:
            return texts_of(event, audience_of)
        except InvalidInput:
            self._give_up(self._news[event.place])
            return None

    def _give_up(self, news: News) -> None:
        """Leave the notifications as they are; a later revision is tried again."""
        log().warning("telling.untellable", event_key=news.row["key"], trace_id=trace_of(news.row))
        self.note_told([news], tellable=False)

    def _tell_range(self, event: Prepared) -> list[Message]:
        """Tell an event to the next of a large audience, in key order, and note how far that is."""
        news, size = self._news[event.place], chunk_size(event)
        place = {"after_key": news.told_up_to, "up_to_key": audience.MAX_KEY, "limit": size + 1}
        given = {**audience.columns(event.targets), **place}
        found = self._connection.execute(audience.read_range(), given).mappings().all()
        texts = self._texts(event, {each["key"]: (each["place"], each) for each in found[:size]})
        if texts is None:
            return []
        if len(found) > size:
            self.note_range(news, found[size - 1]["key"])
        else:
            self.note_told([news])
        return update(self._connection, texts)
