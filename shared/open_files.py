"""How many files the process may have open: each stream is one."""

from __future__ import annotations

import resource

from shared.logs import log

#: For everything but streams: libraries, the pools, Redis, the connections of requests.
RESERVED = 500


def room_for(streams: int) -> int:
    """Raise this process's limit of open files as far as `streams` need; return how many of them it has room for.

    A usual soft limit is 1,024, and over it no connection can be accepted, not even to be refused. Where the hard limit
    is too low, fewer streams are taken (one at least), and the log says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = streams + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return streams
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    room = max(1, min(streams, limit - RESERVED))
    if room < streams:
        log().info("hub.few_files", limit=limit, streams=room, wanted=streams)
    return room
