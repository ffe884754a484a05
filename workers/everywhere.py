"""Work that goes over several databases, one after the other, and is not held up by one that stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial

from shared import databases
from shared.databases import SHARED
from shared.logs import log
from workers import broker
from workers.patience import patience

#: A job's part in one database that takes longer than this waits for a database that stands still: its own bounds are
#: 5 s for each kind of work, and the 2 s that a lock is waited for.
STUCK_S = 25.0

Work = Callable[[], bool | None]
#: The thread of each database that stood still, of this process. What it waits for comes when the database goes on.
_stuck: dict[str, threading.Thread] = {}


def in_every_database(task: str, work: Work) -> bool:
    """Do the work in every database; returns whether none of them said False. One that is away keeps none waiting.

    Nor does one that stands still, as `apart` says. The shared database is not left behind: without it nothing goes.
    """
    all_done = True
    for name in databases.names():
        with patience(task):
            done = _work_in(name, work) if name == SHARED else apart(name, task, partial(_work_in, name, work))
            all_done = done is not False and all_done
    return all_done


def _work_in(name: str, work: Work) -> bool | None:
    with databases.working_in(name):
        return work()


def apart(name: str, task: str, work: Work) -> bool | None:
    """Do work that needs a database in a thread that can be left behind; returns None where it was.

    A database that stands still answers nothing, and no timeout helps (a stopped server, storage that hangs): it costs
    each process `STUCK_S` once, and is passed over until it goes on.
    """
    if name in _stuck and _stuck[name].is_alive():
        return None
    ended: Future[bool | None] = Future()
    arguments = (_settle, ended, work, broker.stands_in())
    thread = threading.Thread(target=copy_context().run, args=arguments, name=f"{task} in {name}", daemon=True)
    thread.start()
    thread.join(STUCK_S)
    if thread.is_alive():
        _stuck[name] = thread
        log().warning("database.left_behind", database=name, task=task)
        return None
    return ended.result()


def _settle(ended: Future[bool | None], work: Work, stands_in: bool) -> None:
    if stands_in:
        broker.stand_in()
    try:
        ended.set_result(work())
    except BaseException as error:
        ended.set_exception(error)
