"""Publishing to a cluster: each channel's messages at its own server, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest
from redis.exceptions import ConnectionError, SlotNotCoveredError

from workers import chunks, fan_out, publish
from workers.deliver import Delivery


class _Server:
    """One server's own client: it notes what was published, or is away."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.tries = 0
        self.is_away = False

    def pipeline(self, transaction: bool) -> _Server:
        assert not transaction
        return self

    def __enter__(self) -> _Server:
        self.tries += 1
        self._queued: list[tuple[str, bytes]] = []
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, at: TracebackType | None) -> None:
        return

    def spublish(self, channel: str, body: bytes) -> None:
        self._queued.append((channel, body))

    def execute(self) -> None:
        if self.is_away:
            raise ConnectionError
        self.published += self._queued


class _Cluster:
    """Two servers: `n…` and the control channel are the north's, `s…` the south's, and nobody has any other."""

    def __init__(self) -> None:
        self.servers = {"north": _Server(), "south": _Server()}
        self.asked = 0
        self.nodes_manager = SimpleNamespace(initialize=self._asked)

    def _asked(self) -> None:
        self.asked += 1

    def get_node_from_key(self, channel: str) -> SimpleNamespace:
        name = {"n": "north", "c": "north", "s": "south"}.get(channel[0])
        if name is None:
            raise SlotNotCoveredError
        return SimpleNamespace(name=name)

    def get_redis_connection(self, node: SimpleNamespace) -> _Server:
        return self.servers[node.name]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Cluster]:
    """A cluster, at the tenth second of its clock."""
    made: Any = _Cluster()
    link = publish._Link(lambda: made)
    monkeypatch.setattr(publish, "_link", lambda: link)
    monkeypatch.setattr(publish, "is_cluster", lambda: True)
    monkeypatch.setattr("shared.stream_redis.is_cluster", lambda: True)
    monkeypatch.setattr(publish, "url_of", lambda _settings: "redis://cluster")
    _at(monkeypatch, 10.0)
    publish.forget_connections()
    yield made
    publish.forget_connections()


def _at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(publish, "time", SimpleNamespace(monotonic=lambda: seconds, time=lambda: seconds))


def test_each_server_gets_its_channels_messages_in_order_and_one_of_them_the_stamp(cluster: _Cluster) -> None:
    messages = [("n1", b"a"), ("s1", b"b"), ("n1", b"c"), ("n2", b"d"), ("s1", b"e")]
    assert sorted(publish.publish(messages)) == [0, 1, 2, 3, 4]
    north, south = cluster.servers["north"].published, cluster.servers["south"].published
    assert [message for message in north if message[0] != "carillon:control"] == [
        ("n1", b"a"),
        ("n1", b"c"),
        ("n2", b"d"),
    ]
    assert north[-1] == ("carillon:control", b'{"stamp":{"committedAt":10.0}}')
    assert south == [("s1", b"b"), ("s1", b"e")]
    assert cluster.asked == 0


def test_a_word_about_messages_is_told_where_the_control_channel_is_behind_all_of_them(cluster: _Cluster) -> None:
    cluster.servers["north"].is_away = True
    assert publish.publish([("s1", b"a")], [b"word"]) == [0]
    cluster.servers["north"].is_away = False
    publish.forget_connections()
    heard: list[tuple[str, bytes]] = []
    for server in cluster.servers.values():
        server.published = heard
    assert publish.publish([("n1", b"b"), ("s1", b"c"), ("s2", b"d")], [b"one", b"two"]) == [1, 2, 0]
    assert heard == [
        ("s1", b"c"),
        ("s2", b"d"),
        ("n1", b"b"),
        ("carillon:control", b"one"),
        ("carillon:control", b"two"),
    ]
    assert publish.publish([("s1", b"e")], [b"three"]) == [0]
    assert heard[5:] == [("s1", b"e"), ("carillon:control", b"three")]


def test_a_server_that_is_away_holds_up_no_other(cluster: _Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.servers["north"].is_away = True
    for number, second in enumerate((10.0, 10.1, 10.2, 11.5)):
        _at(monkeypatch, second)
        assert publish.publish([("n1", b"lost"), ("s1", b"%d" % number)]) == [1]
    assert cluster.servers["south"].published == [("s1", b"0"), ("s1", b"1"), ("s1", b"2"), ("s1", b"3")]
    # It is left alone for a second after a failure, and as often the others are asked who has its slots.
    assert (cluster.servers["north"].tries, cluster.asked) == (2, 2)


def test_what_nobody_has_is_dropped_and_the_servers_are_asked_anew(cluster: _Cluster) -> None:
    assert publish.publish([("x", b"nowhere"), ("s1", b"here")]) == [1]
    assert cluster.servers["south"].published == [("s1", b"here")]
    assert cluster.asked == 1


def test_the_events_counted_as_published_are_those_whose_messages_were_taken(cluster: _Cluster) -> None:
    cluster.servers["north"].is_away = True
    messages = [("n1", b"a"), ("s1", b"b"), ("x", b"c"), ("s1", b"d"), ("n2", b"e")]
    counts = fan_out.Counts()
    fan_out.after_commit(Delivery(messages=messages, owners=[7, 8, 8, 9, 9]), counts)
    assert counts._counts == {8: 1, 9: 1}


def test_a_chunk_counts_the_notifications_that_the_taken_messages_tell(
    cluster: _Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.servers["north"].is_away = True
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(chunks, "progress", lambda *given: told.append(given))
    chunks._after_commit(7, 1, chunks._Done(messages=[("n1", b"a"), ("s1", b"b")], told=[100, 20]))
    assert told == [(7, 1, 20, None)]


def test_a_cluster_that_cannot_be_asked_at_all_is_left_alone_for_a_while(
    cluster: _Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def away() -> Any:
        tried.append(1)
        raise ConnectionError

    link = publish._Link(away)
    monkeypatch.setattr(publish, "_link", lambda: link)
    assert [publish.publish([("s1", b"x")]) for _ in range(3)] == [[], [], []]
    assert len(tried) == 1
