"""One Redis or a cluster of them: what the settings say, and what is asked of it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.cluster import RedisCluster as AsyncCluster
from redis.exceptions import RedisClusterException

from api import enlist
from api.enlist import Place
from shared import stream_redis
from shared.doctor import redis_servers
from shared.errors import SettingsError, StartError
from shared.settings import Settings, load_settings

URL = "redis://user:secret@one:7001"
RESULTS = "redis://results:6379/0"
CLUSTER = {"redis_url": URL, "redis_cluster_nodes": "two:7002,[::1]:7003", "result_url": RESULTS}


def _use(monkeypatch: pytest.MonkeyPatch, **given: Any) -> Settings:
    made = load_settings(**given)
    monkeypatch.setattr(stream_redis, "settings", lambda: made)
    return made


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"redis_cluster_nodes": "two"}, "CARILLON_REDIS_CLUSTER_NODES must be servers such as redis2:6379"),
        ({"redis_cluster_nodes": "u:p@two:1"}, "CARILLON_REDIS_CLUSTER_NODES must be servers such as"),
        ({"redis_url": f"{URL}/1"}, "CARILLON_REDIS_CLUSTER_NODES needs a CARILLON_REDIS_URL of one of its servers"),
        ({"redis_url": "unix:///run/redis"}, "CARILLON_REDIS_CLUSTER_NODES needs a CARILLON_REDIS_URL"),
        ({"result_url": None}, "a Redis Cluster keeps no results of Celery: set CARILLON_RESULT_URL"),
        ({"result_url": "amqp://h"}, "CARILLON_RESULT_URL: must be a URL such as redis://"),
    ],
)
def test_a_cluster_that_is_told_of_in_part_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(**{**CLUSTER, **wrong})
    assert sentence in str(refused.value)
    assert "secret" not in str(refused.value)


def test_without_other_nodes_there_is_one_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, redis_url=URL)
    assert not stream_redis.is_cluster()
    client = stream_redis.Client(0.5)
    assert isinstance(client(), Redis)
    assert client() is client()
    assert stream_redis.publisher(client()) == client().publish
    client().close()


async def test_a_cluster_is_begun_with_every_server_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _use(monkeypatch, **CLUSTER)
    assert stream_redis.first_nodes(made) == [("one", 7001), ("two", 7002), ("::1", 7003)]
    client: Any = stream_redis.async_client(0.5)
    assert isinstance(client, AsyncCluster)
    assert [node.name for node in client.nodes_manager.startup_nodes.values()] == ["one:7001", "two:7002", "::1:7003"]
    assert (client.connection_kwargs["username"], client.connection_kwargs["password"]) == ("user", "secret")
    assert client.connection_kwargs["socket_timeout"] == 0.5
    assert stream_redis.publisher(client) == client.spublish
    await client.aclose()


async def test_one_redis_has_the_ordinary_client(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, redis_url=URL)
    client = stream_redis.async_client(0.5)
    assert isinstance(client, AsyncRedis)
    await client.aclose()


def test_a_cluster_that_cannot_be_asked_is_away_as_any_redis_is(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, redis_url="redis://127.0.0.1:1", redis_cluster_nodes="127.0.0.1:2", result_url=RESULTS)
    client = stream_redis.Client(0.5)
    with pytest.raises(stream_redis.AWAY) as away:
        client()
    # Not one of redis-py's ordinary errors: whoever looks for these alone would end with it.
    assert isinstance(away.value, RedisClusterException)


def test_without_a_redis_the_sentence_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _use(monkeypatch)
    with pytest.raises(StartError, match="CARILLON_REDIS_URL"):
        stream_redis.url_of(made.model_copy(update={"redis_url": None}))


class _Pipe:
    """A pipeline that notes what it is given, and answers as servers would."""

    def __init__(self, cluster: _Cluster) -> None:
        self._cluster = cluster
        self._queued: list[Any] = []

    async def __aenter__(self) -> _Pipe:
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, at: TracebackType | None) -> None:
        return

    def srem(self, key: str, member: str) -> None:
        self._cluster.sent.append(("any", "SREM", key, member))
        self._queued.append(1)

    def execute_command(self, *command: Any, target_nodes: str) -> None:
        self._cluster.sent.append((target_nodes, *command))
        if command[0] == "EXEC":
            self._queued.append([1, 1, self._cluster.lists.pop(0)])
        else:
            self._queued.append(b"OK" if command[0] == "MULTI" else b"QUEUED")

    async def execute(self) -> list[Any]:
        return self._queued


class _Cluster:
    """A cluster's client of whose lists the test says what they hold, place by place."""

    def __init__(self, *lists: list[bytes]) -> None:
        self.lists = list(lists)
        self.sent: list[tuple[Any, ...]] = []

    async def initialize(self) -> None:
        return

    def get_node_from_key(self, key: str) -> str:
        return "north" if "ann" in key else "south"

    def pipeline(self, transaction: bool) -> _Pipe:
        assert not transaction
        return _Pipe(self)

    async def zrangebyscore(self, key: str, least: float, most: str) -> list[bytes]:
        assert (key, most) == (enlist.EDGES, "+inf")
        self.sent.append(("any", "ZRANGEBYSCORE"))
        return [b"p1", b"p2"]


def _register(
    monkeypatch: pytest.MonkeyPatch, cluster: _Cluster, freed: list[Place], places: list[Place]
) -> enlist.Enlisted:
    monkeypatch.setattr(enlist, "is_cluster", lambda: True)
    redis: Any = cluster
    return asyncio.run(enlist.enlist(redis, freed, places, 60))


def test_each_place_is_enlisted_by_a_transaction_of_its_own_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob, gone = Place("t", "ann", "p1/1/"), Place("t", "bob", "p1/2/"), Place("t", "eve", "p1/3/")
    cluster = _Cluster([b"p1/1/", b"p2/9/"], [b"p1/2/"])
    alive, found = _register(monkeypatch, cluster, [gone], [ann, bob])
    assert (alive, found) == ({"p1", "p2"}, [{b"p1/1/", b"p2/9/"}, {b"p1/2/"}])
    assert cluster.sent == [
        ("any", "SREM", gone.key, "p1/3/"),
        *(("north", *command) for command in enlist.transaction(ann, 60)),
        *(("south", *command) for command in enlist.transaction(bob, 60)),
        # Last: whoever is on a list told before that it lives.
        ("any", "ZRANGEBYSCORE"),
    ]


def test_what_is_only_given_back_asks_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = _Cluster()
    assert _register(monkeypatch, cluster, [Place("t", "ann", "p1/1/")], []) == (set(), [])
    assert [command[1] for command in cluster.sent] == ["SREM"]


def test_a_list_and_its_channel_are_of_one_slot() -> None:
    place = Place("t", "ann", "p1/1/abc")
    assert place.key.startswith("carillon:{t/ann}")
    assert place.client == "abc"


@pytest.mark.parametrize(
    ("enabled", "nodes", "what"),
    [
        (0, (), []),
        (1, ("two:7002",), []),
        (1, (), ["Redis is one server of a cluster, and is used as if it were alone"]),
        (0, ("two:7002",), ["Redis is no cluster, and is used as one"]),
    ],
)
def test_the_doctor_knows_a_cluster_from_one_server(enabled: int, nodes: tuple[str, ...], what: list[str]) -> None:
    chosen = load_settings(redis_url=URL, redis_cluster_nodes=nodes, result_url=RESULTS)
    found = redis_servers._cluster("redis_url", {"cluster_enabled": enabled}, chosen)
    assert [(each.level, each.what) for each in found] == [("failure", each) for each in what]
