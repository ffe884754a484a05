"""The names by which wake-ups are sent: whoever commits an event, and the workers, must agree on them."""

from __future__ import annotations

from shared.databases import SHARED

ACCEPT_TASK = "carillon.accept_event"
ACCEPT_QUEUE = "carillon.accept"
FAN_OUT_TASK = "carillon.fan_out"
#: One-to-one and small audiences: the lane that a person waits for.
FAN_OUT_QUEUE = "carillon.urgent"
CHUNK_TASK = "carillon.fan_out_chunk"
CHUNK_QUEUE = "carillon.fan_out"
MAINTENANCE_QUEUE = "carillon.maintenance"

#: Set by whoever queues a wake-up, cleared by the worker before its claim: a wake-up already queued need not be queued
#: again. It expires by itself, so that a wake-up lost with a killed worker is not missed for longer.
WAKE_FLAG_MS = 500
#: The header of a task that names the database that it works in, where that is not the shared one.
DATABASE_HEADER = "carillon-database"
#: Control messages between the processes (revocations), as JSON.
CONTROL_CHANNEL = "carillon:control"
#: Channels on which chunks are published; every edge hears all of them, a cluster spreads them over its shards.
CHUNK_SHARDS = 4


def chunk_channel(shard: int) -> str:
    """Return the channel of chunks of one shard."""
    return f"carillon:{{b{shard}}}"


def database_headers(database: str) -> dict[str, str] | None:
    """Return the headers of a task that works in a database: none for the shared one."""
    return None if database == SHARED else {DATABASE_HEADER: database}


def wake_flag(database: str) -> str:
    """Return the flag of wake-ups for events of a database."""
    return f"carillon:wake:{database}"
