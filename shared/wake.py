"""The names by which wake-ups are sent: whoever commits an event, and the workers, must agree on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from redis import Redis

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
#: A worker that has just found no more events stays for so long, to be told of the next ones without a task.
LINGER_MS = 100
#: What says so outlives the wait by this: a batch that takes longer is no reason to leave what comes to one worker.
WORK_MS = 50
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
    """Return the flag of wake-ups for events of a database. Releases before this one know it by this name."""
    return f"carillon:wake:{database}"


def lingers_key(database: str) -> str:
    """Return the key that is there while a worker lingers for events of a database."""
    return f"{_beside_flag(database)}:lingers"


def nudges_key(database: str) -> str:
    """Return the list that a lingering worker waits at: whatever is put there makes it look at once."""
    return f"{_beside_flag(database)}:nudges"


def _beside_flag(database: str) -> str:
    """Begin a name that a cluster has in the flag's slot: what stands in braces decides."""
    return f"carillon:{{{wake_flag(database)}}}"


#: A command to Redis, word by word.
Command = tuple[str, ...]


class Step(Enum):
    """What follows on an ask: a task, a nudge at the one who lingers, or nothing, since it was asked for already."""

    NOTHING = 0
    NUDGE = 1
    TASK = 2


def asking(database: str) -> tuple[Command, ...]:
    """Return what asks for a look at a database's queue of record, for one transaction (MULTI … EXEC).

    The flag says that it was asked for, the nudge only makes it sooner: whoever stops lingering says so first and looks
    at the flag then, so that what was asked of it meanwhile is done.
    """
    return ("SET", wake_flag(database), "1", "NX", "PX", str(WAKE_FLAG_MS)), ("EXISTS", lingers_key(database))


def following(answers: Sequence[Any]) -> Step:
    """Return what follows on the two answers to `asking`."""
    is_new, lingers = answers
    if not is_new:
        return Step.NOTHING
    return Step.NUDGE if lingers else Step.TASK


def nudging(database: str) -> tuple[Command, ...]:
    """Return what has the one who lingers look at once. One who has left meanwhile costs a key that goes by itself."""
    name = nudges_key(database)
    return ("RPUSH", name, "1"), ("PEXPIRE", name, str(WAKE_FLAG_MS))


def ask(client: Redis, database: str) -> bool:
    """Ask for a look at a database's queue of record; returns whether a wake-up must be sent, as nobody lingers.

    Raises what the client raises.
    """
    step = following(_told(client, asking(database), transaction=True))
    if step is Step.NUDGE:
        _told(client, nudging(database), transaction=False)
    return step is Step.TASK


def _told(client: Redis, commands: tuple[Command, ...], *, transaction: bool) -> list[Any]:
    with client.pipeline(transaction=transaction) as pipe:
        # redis-py gives its method no types.
        say: Callable[..., object] = pipe.execute_command
        for command in commands:
            say(*command)
        return pipe.execute()
