"""What dies, is lost or comes twice between two lines: commit and publish, commit and wake-up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.eventually import eventually
from tests.fault import triggers
from tests.fault.cluster import Shape
from tests.fault.trial import REPAIR_S, Fault, Trial

FAULTY = Shape(worker_app="tests.fault.faulty:app", api_app="tests.fault.faulty:create_app")
#: A burst whose last publish is lost: one event for each of so many people.
BURST = 40
#: An event that kills its worker fails after its fifth attempt: 2 + 4 + 8 + 16 s of waiting, and the attempts.
POISON_S = 120.0
TAKEN_S = 30.0
#: Tells the events that kill whichever process renders them.
DEADLY = "coalesce(data ->> 'badge_title', '') = 'poison'"


@contextmanager
def on(trial: Trial, name: str) -> Iterator[None]:
    """Have a fault on within the block."""
    file = trial.cluster.triggers / name
    file.touch()
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def dies_at(name: str) -> Callable[[Trial], None]:
    """Return an injection that has the next process that comes by a place killed there."""

    def inject(trial: Trial) -> None:
        file = trial.cluster.triggers / name
        file.touch()
        eventually(lambda: not file.exists(), within=TAKEN_S)
        eventually(lambda: trial.cluster.supervisor.settled(trial.cluster.supervisor.parts), within=TAKEN_S)

    return inject


def last_publish_dropped(trial: Trial) -> None:
    """Lose the publishing of a burst after which nothing comes that would show the hole."""
    load = trial.load
    with load.silent():
        eventually(lambda: not any(load.owed()), within=TAKEN_S)
        with on(trial, triggers.DROP_PUBLISH):
            load.post([trial.random.randrange(load.people) for _ in range(BURST)])
            with trial.connect() as session:
                pending = f"SELECT count(*) AS many FROM events WHERE state = 'accepted' AND NOT ({DEADLY})"
                eventually(lambda: session.execute(pending.encode()).fetchone() == {"many": 0}, within=TAKEN_S)
        # The streams are behind, and only the reconciler can know.
        trial.notes["frames lost"] += sum(len(each) for each in load.owed())
        trial.await_repair()


def published_by_sql_unheard(trial: Trial) -> None:
    """Have producers commit by SQL while nobody is woken for it, by NOTIFY or otherwise."""
    with on(trial, triggers.DROP_WAKE), trial.connect() as session:
        for _ in range(5):
            trial.load.publish(session, [trial.random.randrange(trial.load.people) for _ in range(10)])
            trial.hold(0.1, 0.5)


def delivered_twice(trial: Trial) -> None:
    """Have every task delivered twice at once for a while."""
    with on(trial, triggers.DOUBLE):
        trial.hold(3.0, 6.0)


def poison(trial: Trial) -> None:
    """Post an event that kills whichever process renders it, among others, until the first one has died of it.

    It goes on killing for half a minute, beside the next ones: what the others wait for meanwhile is judged at the end.
    """
    trial.load.post([trial.random.randrange(trial.load.people)], owed=False, badge_title="poison")
    trial.notes["poisoned"] += 1
    untried = f"SELECT count(*) AS many FROM events WHERE {DEADLY} AND state = 'accepted' AND attempts = 0"
    with trial.connect() as session:
        eventually(lambda: session.execute(untried.encode()).fetchone() == {"many": 0}, within=TAKEN_S)


def only_poison_suffered(trial: Trial) -> list[str]:
    """Tell which poison events did not end as failed, with five attempts, and whether anybody else's waited long."""
    longest = trial.load.ledger.longest_wait
    late = [f"another's event waited {longest:.1f} s"] if longest > REPAIR_S else []
    return [*poison_has_failed(trial), *late]


def poison_has_failed(trial: Trial) -> list[str]:
    """Tell which poison events did not end as failed, with five attempts."""
    poisoned = f"SELECT id, state, attempts FROM events WHERE {DEADLY}"
    with trial.connect() as session:
        waiting = f"SELECT count(*) AS many FROM ({poisoned}) p WHERE state = 'accepted'"
        eventually(lambda: session.execute(waiting.encode()).fetchone() == {"many": 0}, within=POISON_S)
        rows = session.execute(poisoned.encode()).fetchall()
    wrong = [f"{dict(row)}" for row in rows if (row["state"], row["attempts"]) != ("failed", 5)]
    return wrong if len(rows) == trial.notes["poisoned"] else [*wrong, f"{len(rows)} poison events are stored"]


FAULTS = [
    Fault(name="worker dead between commit and publish", inject=dies_at(triggers.DIE_BEFORE_PUBLISH), shape=FAULTY),
    Fault(name="last publish of a burst lost, nothing after it", inject=last_publish_dropped, shape=FAULTY),
    Fault(name="producer's API process dead between commit and wake-up", inject=dies_at(triggers.DIE_BEFORE_WAKE),
          shape=FAULTY),
    Fault(name="events by SQL, every wake-up lost", inject=published_by_sql_unheard, shape=FAULTY),
    Fault(name="every task delivered twice at once", inject=delivered_twice, shape=FAULTY),
    Fault(name="event that kills its worker", inject=poison, shape=FAULTY, finish=only_poison_suffered),
]  # fmt: skip
