"""One fault's run on one cluster: injections at random moments under load, each repaired, and the audit at the end."""

from __future__ import annotations

import random
import secrets
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg

from shared.settings import PROJECT_ROOT
from tests.directory import Row
from tests.eventually import eventually
from tests.fault.audit import Verdict, audit, is_told, name_deleted
from tests.fault.cluster import Cluster, Shape
from tests.fault.load import Load

LOGS = PROJECT_ROOT / ".cache" / "fault-logs"
#: Before the first injection, and between one's repair and the next one.
WARM_UP_S = 2.0
PAUSE_S = (0.1, 1.0)
#: What is promised, and how long is waited to see by how much it is missed.
REPAIR_S = 10.0
PATIENCE_S = 30.0
#: A killed part runs again within its back-off and a little.
RESTART_S = 60.0
POLL_S = 0.05
#: A stream that still lacks something was perhaps told that it is deleted by now, without a name: look it up.
NAMED_S = 2.0
#: A repair that has taken this long is told with what it lacks.
LATE_S = 6.0
#: With 200 streams an API process has about 130 MiB; this is its bound whatever happens.
MEMORY_MIB = 256.0


_LATE = """
    SELECT e.type, e.state, e.attempts, e.tried_at IS NOT NULL AS suspect, count(*) AS many,
           (SELECT count(*) FROM fan_out_chunks c WHERE c.event_key = min(e.key) AND c.state = 'pending') AS chunks
    FROM events e WHERE e.tenant = %s AND e.id = ANY(%s) GROUP BY 1, 2, 3, 4"""


class Trial:
    """What an injection works with. It returns when the fault is over: from then on the repair counts."""

    def __init__(self, cluster: Cluster, load: Load, session: Callable[[], psycopg.Connection[Row]]) -> None:
        self.cluster, self.load = cluster, load
        self.connect = session
        self.random = random.Random(0)
        #: Anything an injection wants to be told in the table, counted.
        self.notes: Counter[str] = Counter()
        self.number = 0
        #: The seconds that the present injection's repair took, once that is known.
        self.repair: float | None = None

    def hold(self, least: float, most: float | None = None) -> None:
        """Let a time pass, in seconds: that long, or a random one between both."""
        threading.Event().wait(least if most is None else self.random.uniform(least, most))

    def kill(self, names: Iterable[str], number: signal.Signals = signal.SIGKILL) -> None:
        """Signal these parts, and return once each of them has ended and was started again."""
        chosen = list(names)
        supervisor = self.cluster.supervisor
        before = {name: supervisor.deaths[name] for name in chosen}
        eventually(lambda: supervisor.settled(chosen), within=RESTART_S)
        for name in chosen:
            # One that the injection before has just made die by itself has its death counted likewise.
            with suppress(ProcessLookupError):
                supervisor.parts[name].signal(number)
        eventually(lambda: all(supervisor.deaths[name] > before[name] for name in chosen), within=RESTART_S)
        eventually(lambda: supervisor.settled(chosen), within=RESTART_S)

    def await_repair(self) -> None:
        """Note how long it takes from now until what is owed now was told; beyond `PATIENCE_S` is the audit's to tell.

        Called after each injection, unless the injection did so itself.
        """
        healed = time.monotonic()
        owed = self.load.owed()
        late = healed + LATE_S
        while self.load.still_owed(owed) and time.monotonic() < healed + PATIENCE_S:
            if time.monotonic() > late:
                late = healed + PATIENCE_S
                self._tell_what_is_late(owed)
            if time.monotonic() > healed + NAMED_S:
                with self.connect() as session:
                    name_deleted(self.load, session)
            self.hold(POLL_S)
        self.repair = time.monotonic() - healed

    def _tell_what_is_late(self, owed: list[set[str]]) -> None:
        """Print what is still owed of this, and what the database says of it."""
        lacking = self.load.owed()
        ids = sorted(set().union(*(then & now for then, now in zip(owed, lacking, strict=True))))
        streams = sum(bool(then & now) for then, now in zip(owed, lacking, strict=True))
        with self.connect() as session:
            rows = session.execute(_LATE, [self.load.tenant, ids]).fetchall()
        print(f"    late: {len(ids)} events on {streams} streams: {[tuple(row.values()) for row in rows]}", flush=True)

    def require_ready(self) -> None:
        """Return once every part works: a fault begins in good health."""
        eventually(self.cluster.is_ready, within=RESTART_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault: its name in the table, how to inject it once, how often, and the cluster that it needs."""

    name: str
    inject: Callable[[Trial], None]
    times: int = 10
    shape: Shape = field(default_factory=Shape)
    #: Whether it needs a cluster that nothing else has run on, and leaves none to others.
    alone: bool = False
    #: A check of its own after the last repair: returns what was wrong, in words.
    finish: Callable[[Trial], list[str]] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What one fault came to."""

    name: str
    times: int
    seeds: tuple[int, ...]
    verdict: Verdict
    #: Seconds from the end of each injection until all that was acknowledged by then had been told.
    repairs: tuple[float, ...]
    #: Seconds from an acknowledgement to its telling, at most, the fault included.
    longest_wait: float
    seconds: float
    rate: float
    memory_mib: float
    notes: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether everything was as promised."""
        return self.verdict.clean and self.longest <= REPAIR_S and self.memory_mib <= MEMORY_MIB

    @property
    def longest(self) -> float:
        """The longest repair, in seconds."""
        return max(self.repairs, default=0.0)


def run(fault: Fault, times: int | None = None, seed: int | None = None) -> Result:
    """Run one fault on a cluster of its own, which is gone afterwards. Prints the seed of each injection."""
    with Cluster(fault.shape) as cluster:
        return run_on(cluster, fault, times, seed)


def run_on(cluster: Cluster, fault: Fault, times: int | None = None, seed: int | None = None) -> Result:
    """Run one fault on a running cluster of its shape, with a load of its own. Prints the seed of each injection."""
    began = time.monotonic()
    root = secrets.randbelow(10**6) if seed is None else seed
    seeds = [root + number for number in range(fault.times if times is None else times)]
    load = Load(cluster, f"f{root}")
    trial = Trial(cluster, load, cluster.connect)
    supervisor = cluster.supervisor
    supervisor.peak_mib.clear()
    deaths = Counter(supervisor.deaths)
    with _logs_kept(cluster, f"{fault.name}-{root}") as judged:
        load.start()
        trial.hold(WARM_UP_S)
        repairs = [_inject(fault, trial, each) for each in seeds]
        took = time.monotonic() - load.began
        verdict = _end(fault, trial)
        judged(verdict.clean and max(repairs) <= REPAIR_S)
    load.close()
    died = {f"died {name}": many for name, many in (Counter(supervisor.deaths) - deaths).items()}
    told = Counter({**load.ledger.happened, **trial.notes, **died})
    memory = max(supervisor.peak_mib.values(), default=0.0)
    rate = verdict.acknowledged / took
    elapsed = time.monotonic() - began
    return Result(
        fault.name, len(seeds), tuple(seeds), verdict, tuple(repairs), load.ledger.longest_wait, elapsed, rate, memory,
        {**told, **{f"post {name}": many for name, many in load.ledger.answers.items()}},
    )  # fmt: skip


@contextmanager
def _logs_kept(cluster: Cluster, name: str) -> Iterator[Callable[[bool], None]]:
    """Copy what every part printed into a folder that is told, unless the block says that all was well."""
    verdicts: list[bool] = []
    try:
        yield verdicts.append
    finally:
        if verdicts != [True]:
            kept = LOGS / name.replace(" ", "-").replace("/", "-")
            kept.mkdir(parents=True, exist_ok=True)
            for log in cluster.folder.glob("*.log"):
                shutil.copy(log, kept)
            print(f"    the parts' logs are in {kept}", flush=True)


def _inject(fault: Fault, trial: Trial, seed: int) -> float:
    """Inject once and return the seconds that the repair took."""
    trial.random = random.Random(seed)
    trial.require_ready()
    trial.hold(*PAUSE_S)
    trial.number += 1
    trial.repair = None
    print(f"{fault.name}, injection {trial.number}: seed {seed}", flush=True)
    fault.inject(trial)
    if trial.repair is None:
        trial.await_repair()
    assert trial.repair is not None
    print(f"    repaired in {trial.repair:.1f} s", flush=True)
    return trial.repair


def _end(fault: Fault, trial: Trial) -> Verdict:
    trial.load.stop()
    with trial.connect() as session:
        deadline = time.monotonic() + PATIENCE_S
        while not is_told(trial.load, session) and time.monotonic() < deadline:
            trial.hold(POLL_S)
        for words in fault.finish(trial) if fault.finish else ():
            trial.cluster.loop.call(trial.load.ledger.blame, "finish", words)
        return audit(trial.load, session)
