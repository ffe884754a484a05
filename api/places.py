"""How many streams a recipient may have, in all processes together, and which makes room for its successor."""

from __future__ import annotations

from dataclasses import dataclass

from api.enlist import Place
from api.presence import Presence
from api.sse import Goodbye, Stream
from shared.errors import TooManyRequests

#: A refused client comes back after this: a killed process's streams are forgotten by then.
REFUSED_RETRY_S = 10


@dataclass(slots=True)
class Counts:
    """What happened since the start, for the metrics."""

    fresh: int = 0
    replays: int = 0
    delivered: int = 0
    late: int = 0
    held: int = 0
    untold: int = 0
    unreadable: int = 0
    resets: int = 0
    slow: int = 0
    refused: int = 0
    replaced: int = 0


class Places:
    """The places of this process's streams. One over the limit is refused; none is closed but for its own successor.

    The limit holds over all processes while Redis is there, and for each process alone while it is away.
    """

    def __init__(self, presence: Presence, limit: int, counts: Counts) -> None:
        self._presence, self._limit, self._counts = presence, limit, counts

    async def take(self, stream: Stream) -> None:
        """Take a place for `stream`, which stands in its inbox's list already; end an earlier one of the same client.

        Raises `TooManyRequests`. A stream that is being opened counts, so that of many at once no more get through.
        """
        here = [each for each in stream.inbox.streams if each is not stream and each.open]
        if stream.client is not None:
            here = [each for each in here if each.client != stream.client]
        self._require_room(len(here))
        others = await self._presence.others(self.place_of(stream))
        same = [place for place in others if place.client and place.client == stream.client]
        self._require_room(len(here) + len(others) - len(same))
        self._replace(stream)
        if same:
            await self._presence.ask_to_end(same)

    def free(self, stream: Stream) -> None:
        """Give the stream's place back."""
        self._presence.free(self.place_of(stream))

    def place_of(self, stream: Stream) -> Place:
        """Return the name of the stream's place."""
        member = f"{self._presence.process}/{stream.number}/{stream.client or ''}"
        return Place(stream.inbox.tenant, stream.inbox.recipient, member)

    def _require_room(self, others: int) -> None:
        if others >= self._limit:
            self._counts.refused += 1
            raise TooManyRequests(f"There are {self._limit} open streams already.", retry_after=REFUSED_RETRY_S)

    def _replace(self, stream: Stream) -> None:
        """End the earlier streams of the same client."""
        for each in list(stream.inbox.streams):
            if stream.client is not None and each.client == stream.client and each.number < stream.number:
                self._counts.replaced += each.open
                each.end(Goodbye.REPLACED)
