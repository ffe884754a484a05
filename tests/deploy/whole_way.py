"""The whole way, from the posted event to every stream, over whichever servers the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from tests.listener import Listener, token_for
from tests.producers import TENANT, envelope, post
from tests.servers import ApiServer

#: A worker on a busy machine.
WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class WholeWay:
    """Running processes, people whom the directory knows, and a producer's key."""

    environment: dict[str, str]
    servers: Sequence[ApiServer]
    people: Sequence[str]
    key: str
    client: httpx.AsyncClient

    def listener(self, person: str, server: int = 0) -> Listener:
        """Return a stream of a person at one of the API's processes, not yet open."""
        return Listener(self.servers[server].url, token_for(self.environment, person, tenant=TENANT))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[list[Listener]]:
        """Open a stream for each person, at the processes in turn, and yield them once all are connected."""
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(self.listener(person, number % len(self.servers)))
                for number, person in enumerate(self.people)
            ]
            for stream in streams:
                await stream.count(1, WITHIN_S)
            yield streams

    async def award(self, name: str, person: str) -> None:
        """Post one event about a person."""
        data = {"student_id": person, "achievement_id": name, "title": name}
        answer = await post(self.client, self.key, envelope(f"{name}-{person}", data=data))
        assert answer.status_code == 202, answer.text

    async def require_told(self, streams: Sequence[Listener], rounds: int = 3) -> None:
        """Post some events about each person, and require that each stream tells exactly its own, in order."""
        for number in range(rounds):
            for person in self.people:
                await self.award(f"round-{number}", person)
        for stream in streams:
            frames = await stream.count(1 + rounds, WITHIN_S)
            told = [(frame.kind, frame.seq) for frame in frames]
            assert told == [("connected", 0), *(("created", seq) for seq in range(1, rounds + 1))]
