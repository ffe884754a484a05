"""Listening to a Redis Cluster: one connection to each server, and every channel on the one that has its slot.

At most once by nature, as `api/subscriber.py`: while a slot changes hands its channels may miss messages, and the
reconciler repairs their streams.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from api.subscriber import SHARDED, Heard, RedisSubscriber, Subscription
from api.tasks import end
from shared.logs import log
from shared.settings import settings
from shared.stream_redis import AWAY, Address, is_cluster, url_of

#: Between two looks whether all servers are heard. Channels of a server that failed are moved within this, once the
#: cluster has chosen another one for its slots.
LOOK_S = 1.0
#: A server that ended a channel's subscription, and has its slot still at so many looks in a row, is asked anew: at the
#: first one the server that was asked may not have heard yet of the slot's move, and whoever lost it would end the
#: connection.
LOOKS = 2
#: A server that answers no ping for so long is asked on a new connection.
SILENT_S = 3.0

#: Returns which server has a channel's slot; None where none has it at this moment.
Owner = Callable[[bytes], Address | None]


class Slots:
    """Which server of a cluster has which channel, as its client knows it."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._known: dict[int, str] = {}

    async def refresh(self) -> bool:
        """Ask the servers anew; returns whether any slot is elsewhere than before. Raises one of `AWAY`."""
        await self._cluster.initialize()
        await self._cluster.nodes_manager.initialize()
        before = self._known
        self._known = {slot: nodes[0].name for slot, nodes in self._cluster.nodes_manager.slots_cache.items()}
        return self._known != before

    def owner(self, channel: bytes) -> Address | None:
        """Return the server of a channel's slot."""
        try:
            node = self._cluster.get_node_from_key(channel.decode())
        except AWAY:
            return None
        return (node.host, node.port)


class ShardedSubscriber:
    """Listens to channels wherever in a cluster they are; the same as `RedisSubscriber` to its hub.

    Between `start` and `stop` it holds a connection to each server that has a wanted channel.
    """

    def __init__(
        self, url: str, heard: Heard, owner: Owner, refresh: Callable[[], Awaitable[bool]], *, look_s: float = LOOK_S
    ) -> None:
        self._url, self._heard, self._owner, self._refresh = url, heard, owner, refresh
        self._look_s = look_s
        self._links: dict[Address, RedisSubscriber] = {}
        #: Every wanted channel's server; None while nobody has its slot.
        self._places: dict[bytes, Address | None] = {}
        #: Channels that were given up, until their links have let go of them.
        self._unneeded: set[bytes] = set()
        #: Channels whose server ended the subscription, and how often it was seen since to have their slot still.
        self._ended: dict[bytes, int] = {}
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.is_up = asyncio.Event()

    @property
    def up(self) -> bool:
        """True while every server that has a wanted channel is heard."""
        return bool(self._links) and None not in self._places.values() and all(each.up for each in self._links.values())

    @property
    def channels(self) -> int:
        """How many channels are subscribed now."""
        return sum(link.channels for link in self._links.values())

    @property
    def heard_at(self) -> float:
        """The monotonic time of the last bytes that came, from whichever server."""
        return max((link.heard_at for link in self._links.values()), default=0.0)

    def start(self) -> None:
        """Begin to look for the servers; returns at once, whether they are there or not."""
        self._moved.set()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Close all connections and end."""
        await end(self._task)
        await asyncio.gather(*self._closing, *(link.stop() for link in self._links.values()))

    def drop_connection(self) -> None:
        """End all present connections; new ones follow."""
        for link in self._links.values():
            link.drop_connection()

    def want(self, channel: bytes) -> None:
        """Have `channel` subscribed from now on, wherever its slot goes. Again: nothing."""
        self._unneeded.discard(channel)
        if channel not in self._places:
            self._places[channel] = None
            self._place(channel)
        elif (link := self._link_of(channel)) is not None:
            link.want(channel)

    def unwant(self, channel: bytes) -> None:
        """Give `channel` up, some seconds from now unless it is wanted again."""
        if channel in self._places:
            self._unneeded.add(channel)
        if (link := self._link_of(channel)) is not None:
            link.unwant(channel)

    async def confirmed(self, channel: bytes) -> bool:
        """Wait until a wanted channel's server confirmed it, as `RedisSubscriber.confirmed`."""
        link = self._link_of(channel)
        return link is not None and await link.confirmed(channel)

    def _link_of(self, channel: bytes) -> RedisSubscriber | None:
        address = self._places.get(channel)
        return None if address is None else self._links.get(address)

    def _place(self, channel: bytes) -> None:
        """Have a wanted channel subscribed where its slot is now."""
        before, now = self._places[channel], self._owner(channel)
        if now == before:
            return
        if before is not None and before in self._links:
            self._links[before].forget(channel)
        self._places[channel] = now
        self._ended.pop(channel, None)
        # One that nobody needs any more is let go of on the way.
        if now is not None and channel not in self._unneeded:
            self._link_to(now).want(channel)

    def _link_to(self, address: Address) -> RedisSubscriber:
        if address not in self._links:
            heard = Heard(self._heard.on_message, self._heard.on_read_end, self._on_link_up)
            link = RedisSubscriber(self._url, heard, words=SHARDED, address=address, on_ended=self._on_link_ended)
            link.start()
            self._links[address] = link
        return self._links[address]

    def _on_link_ended(self, channel: bytes) -> None:
        self._ended[channel] = 0
        self._moved.set()

    def _on_link_up(self) -> None:
        self._tell_up()
        self._heard.on_up()

    def _tell_up(self) -> None:
        if self.up:
            self.is_up.set()
        else:
            self.is_up.clear()

    async def _run(self) -> None:
        """Keep every channel at its server for ever; ends only by cancellation."""
        while True:
            if self._moved.is_set() or not self.up:
                await self._replace()
            self._forget_unneeded()
            self._listen_after()
            self._tell_up()
            await asyncio.sleep(self._look_s)

    async def _replace(self) -> None:
        """Ask the cluster who has which slots, and move the channels whose slots have moved."""
        self._moved.clear()
        try:
            changed = await self._refresh()
        except AWAY as error:
            log().warning("shards.unknown", reason=type(error).__name__)
            self._moved.set()
            return
        for channel, address in self._places.items():
            if changed or address is None:
                self._place(channel)
        self._renew_ended()
        for address in self._links.keys() - set(self._places.values()):
            closing = asyncio.create_task(self._links.pop(address).stop())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _renew_ended(self) -> None:
        """Subscribe anew what was ended and has not moved: its slot has come back, or never went."""
        for channel in list(self._ended):
            self._ended[channel] += 1
            if self._ended[channel] >= LOOKS:
                del self._ended[channel]
                if (link := self._link_of(channel)) is not None:
                    link.renew(channel)
        if self._ended:
            self._moved.set()

    def _forget_unneeded(self) -> None:
        """Forget the channels that their links let go of, some seconds after nobody needed them any more."""
        for channel in list(self._unneeded):
            link = self._link_of(channel)
            if link is None or not link.wants(channel):
                self._unneeded.discard(channel)
                del self._places[channel]

    def _listen_after(self) -> None:
        """Have every server say something, and end the connections of those that say nothing."""
        for address, link in self._links.items():
            if link.up and time.monotonic() - link.heard_at > SILENT_S:
                log().warning("subscriber.silent", server=f"{address[0]}:{address[1]}")
                link.drop_connection()
            link.ping()


def subscriber_of(client: Any, heard: Heard) -> Subscription:
    """Return what a hub listens by: to the one Redis, or to the cluster that `client` knows."""
    url = url_of(settings())
    if not is_cluster():
        return RedisSubscriber(url, heard)
    slots = Slots(client)
    return ShardedSubscriber(url, heard, slots.owner, slots.refresh)
