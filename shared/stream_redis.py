"""The Redis of CARILLON_REDIS_URL, one server or a cluster: its clients, what they raise, and how they publish.

In a cluster every channel is a sharded one: it lives where its slot lives, so that servers share the traffic. (An
ordinary channel of a cluster is repeated by every server to every other.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, cast

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.cluster import ClusterNode as AsyncNode
from redis.asyncio.cluster import RedisCluster as AsyncCluster
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from shared.errors import StartError
from shared.settings import Settings, settings

#: What a Redis that is away makes its clients raise. A cluster's client has a family of its own, and raises IndexError
#: where the cluster has no slots yet.
AWAY = (RedisError, RedisClusterException, OSError, IndexError)
#: Of one asyncio client to one server of a cluster: its requests run at once, up to so many.
MOST_CONNECTIONS = 1_000

Address = tuple[str, int]


def is_cluster() -> bool:
    """Tell whether this installation's Redis is a cluster."""
    return bool(settings().redis_cluster_nodes)


def url_of(chosen: Settings) -> str:
    """Return the URL; raises `StartError` where there is none."""
    if chosen.redis_url is None:
        raise StartError("No Redis: set CARILLON_REDIS_URL, or start with `make up`.")
    return chosen.redis_url.get_secret_value()


def first_nodes(chosen: Settings) -> list[Address]:
    """Return the servers of a cluster that are asked for all others: the URL's, and those that are told besides."""
    target = parse_url(url_of(chosen))
    told = (node.rpartition(":") for node in chosen.redis_cluster_nodes)
    first = (str(target.get("host", "localhost")), int(target.get("port", 6379)))
    return list(dict.fromkeys([first, *((host.strip("[]"), int(port)) for host, _, port in told)]))


def _arguments(chosen: Settings, timeout_s: float) -> dict[str, Any]:
    """Return what the URL says of every server of a cluster: user, password, TLS."""
    target: dict[str, Any] = dict(parse_url(url_of(chosen)))
    for own in ("host", "port", "db"):
        target.pop(own, None)
    secure = target.pop("connection_class", None) is SSLConnection
    timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    # One server that is away takes its own slots with it, and no others. The addresses of the settings stay known: a
    # cluster without slots yet names none.
    shapes = {"require_full_coverage": False, "dynamic_startup_nodes": False}
    return {**target, **timeouts, "ssl": secure, **shapes}


def async_client(timeout_s: float) -> AsyncRedis:
    """Return an asyncio client that connects when it is first asked, gives up after `timeout_s`, and tries once.

    A cluster's has the same methods; its transactions must keep to one slot.
    """
    chosen, once = settings(), AsyncRetry(NoBackoff(), 0)
    if not is_cluster():
        return AsyncRedis.from_url(
            url_of(chosen), socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=once
        )
    nodes = [AsyncNode(host, port) for host, port in first_nodes(chosen)]
    arguments = {**_arguments(chosen, timeout_s), "retry": once, "max_connections": MOST_CONNECTIONS}
    return cast("AsyncRedis", AsyncCluster(startup_nodes=nodes, **arguments))


def _client(timeout_s: float, again: int) -> Redis:
    chosen, retry = settings(), Retry(NoBackoff(), again)
    if not is_cluster():
        return Redis.from_url(url_of(chosen), socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry)
    nodes = [ClusterNode(host, port) for host, port in first_nodes(chosen)]  # type: ignore[no-untyped-call]
    return cast("Redis", RedisCluster(startup_nodes=nodes, retry=retry, **_arguments(chosen, timeout_s)))


class Client:
    """A blocking client, made when it is first called for: a cluster's asks its servers for their slots at once.

    `again`: how often a command that failed is tried anew; once mends a connection that Redis' restart has cut.
    """

    def __init__(self, timeout_s: float, again: int = 0) -> None:
        self._timeout_s, self._again = timeout_s, again
        self._made: Redis | None = None

    def __call__(self) -> Redis:
        """Return the client; raises one of `AWAY` where a cluster cannot be asked."""
        if self._made is None:
            self._made = _client(self._timeout_s, self._again)
        return self._made


Message = tuple[str, bytes]


class Share(NamedTuple):
    """One server of a cluster: its own client, the messages of its channels, and their places among all."""

    client: Redis
    messages: list[Message]
    places: list[int]


def by_server(cluster: Any, messages: Iterable[Message]) -> dict[str, Share]:
    """Return the messages by the servers of their channels, in order; without those whose channels nobody has."""
    shares: dict[str, Share] = {}
    for place, message in enumerate(messages):
        try:
            node = cluster.get_node_from_key(message[0])
        except AWAY:
            continue
        if node.name not in shares:
            shares[node.name] = Share(cluster.get_redis_connection(node), [], [])
        shares[node.name].messages.append(message)
        shares[node.name].places.append(place)
    return shares


def refresh(cluster: Any) -> None:
    """Ask a cluster's servers who has which slots now. Where none answers, what was known stays."""
    with suppress(*AWAY):
        cluster.nodes_manager.initialize()


async def arefresh(cluster: Any) -> None:
    """As `refresh`, of an asyncio client: of one too that knows itself that it must ask, and was cancelled at it."""
    with suppress(*AWAY):
        await cluster.initialize()
        await cluster.nodes_manager.initialize()


def publisher(client: Any) -> Callable[[str | bytes, bytes], Any]:
    """Return by which method of a client, or of its pipeline, a message is published here."""
    method: Callable[[str | bytes, bytes], Any] = client.spublish if is_cluster() else client.publish
    return method
