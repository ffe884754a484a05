"""Redis and the broker: reachable, keeping what they are given, over a restart too, with a clock that agrees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import redis

from shared import broker, overview
from shared.doctor.finding import Finding, graver_in_production, skew_finding
from shared.settings import Settings

#: A broker that evicts loses tasks without a word.
KEEPS_ALL = "noeviction"
#: Beyond this share of its memory, a Redis that evicts nothing soon refuses writes.
MEMORY_SHARE = 0.9
SERVERS = (
    ("redis_url", "Redis", "streams are repaired every few seconds only"),
    ("broker_url", "the broker", "events wait for the sweeper"),
    ("result_url", "the results' Redis", "Celery producers get no answers"),
)


def checks(chosen: Settings) -> Iterator[Finding]:
    """Yield what is wrong with each of the two, which may be one server."""
    for name, what, loss in SERVERS:
        url = overview.url_of(chosen, name)
        setting = f"CARILLON_{name.upper()}"
        if url is None and name == "result_url":
            continue
        if url is None:
            yield Finding("failure", name, f"no address of {what} is known", f"set {setting}, or start with `make up`")
        elif broker.is_amqp(url):
            yield _rabbitmq(name, what, loss, url)
        elif (asked := broker.redis_url(url)) is not None:
            yield from _one(name, what, loss, asked, chosen)


def _rabbitmq(name: str, what: str, loss: str, url: str) -> Finding:
    with broker.probing(url, overview.PATIENCE_SECONDS) as probe:
        if probe.takes_messages():
            return Finding("ok", name, f"{what} takes messages (RabbitMQ)")
    advice = "start it, correct CARILLON_BROKER_URL, or look for an alarm of its memory or disk"
    return Finding("failure", name, f"{what} takes no messages: {loss}", advice)


def _one(name: str, what: str, loss: str, url: str, chosen: Settings) -> Iterator[Finding]:
    try:
        with overview.redis_client(url) as client:
            before = time.time()
            seconds, micros = client.time()
            skew = seconds + micros / 1e6 - (before + time.time()) / 2
            told: dict[str, Any] = client.info()
    except (redis.RedisError, OSError) as problem:
        advice = f"start it, or correct CARILLON_{name.upper()}"
        yield Finding("failure", name, f"{what} does not answer ({problem}): {loss}", advice)
        return
    yield Finding("ok", name, f"{what} answers (Redis {told['redis_version']})")
    yield from _memory(name, what, told)
    if name == "broker_url":
        yield from _persistence(name, what, told, chosen)
    if name == "redis_url":
        yield from _cluster(name, told, chosen)
    yield skew_finding("redis_clock", f"{what}'s", skew)


def _cluster(name: str, told: dict[str, Any], chosen: Settings) -> Iterator[Finding]:
    """Tell where a cluster is taken for one server, or one server for a cluster."""
    if bool(told.get("cluster_enabled")) == bool(chosen.redis_cluster_nodes):
        return
    if told.get("cluster_enabled"):
        advice = "name other servers of it in CARILLON_REDIS_CLUSTER_NODES"
        yield Finding("failure", name, "Redis is one server of a cluster, and is used as if it were alone", advice)
    else:
        advice = "leave CARILLON_REDIS_CLUSTER_NODES unset, or have CARILLON_REDIS_URL name a server of the cluster"
        yield Finding("failure", name, "Redis is no cluster, and is used as one", advice)


def _memory(name: str, what: str, told: dict[str, Any]) -> Iterator[Finding]:
    policy = told.get("maxmemory_policy", "unknown")
    if policy != KEEPS_ALL:
        yield Finding(
            "failure",
            name,
            f"{what} evicts ({policy}): when memory is short, tasks vanish",
            "set maxmemory-policy noeviction in redis.conf",
        )
    limit = told.get("maxmemory", 0)
    if limit and told["used_memory"] > MEMORY_SHARE * limit:
        share = f"{100 * told['used_memory'] / limit:.0f} %"
        yield Finding("warning", name, f"{what} uses {share} of its maxmemory", "raise maxmemory in redis.conf")


def _persistence(name: str, what: str, told: dict[str, Any], chosen: Settings) -> Iterator[Finding]:
    """Events are safe in PostgreSQL; tasks of Celery producers that no worker took yet are in the broker alone."""
    if not told.get("aof_enabled"):
        yield Finding(
            graver_in_production(chosen),
            name,
            f"{what} forgets tasks when it restarts: a Celery producer's event that no worker took yet is lost",
            "set appendonly yes in redis.conf",
        )
    failing = [key for key in ("aof_last_write_status", "rdb_last_bgsave_status") if told.get(key, "ok") != "ok"]
    if failing:
        yield Finding(
            "failure",
            name,
            f"{what} cannot write to its disk ({', '.join(failing)})",
            "look into its log: the disk is full, or its folder not writable",
        )
