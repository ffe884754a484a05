"""Times that do not go on as they should: a restored backup, and a clock that is set."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from shared.settings import PROJECT_ROOT
from tests.eventually import eventually
from tests.fault.cluster import FAKED, Shape
from tests.fault.trial import Fault, Trial
from tests.servers import base_environment

#: What is lost by the restoring: this much load after the backup.
LOST_S = (2.0, 4.0)
#: Half of the clients stay away until their inboxes have more changes than they had seen before.
AWAY_S = 60.0
CLOCKS = Shape(clocks=True, worker_app="tests.fault.clocked:app")
STEPS_S = (-3000, -90, 90, 3000)
RENEW_S = 30.0


def backup_restored(trial: Trial) -> None:
    """Go back to a backup and renew the epoch; half of the clients come back once `seq` has passed their old one."""
    cluster, load = trial.cluster, trial.load
    backup = cluster.folder / "backup"
    _copy(trial, cluster.postgres.cluster, backup)
    trial.hold(*LOST_S)
    away = load.streams[::2]
    for stream in away:
        cluster.loop.call(stream.hold)
    old = {stream.number: stream.inbox.mark for stream in away}
    _restore(trial, backup)
    with trial.connect() as session:
        seqs, tenant = "SELECT recipient, seq FROM inboxes WHERE tenant = %s", [load.tenant]
        eventually(
            lambda: _passed(old, {row["recipient"]: row["seq"] for row in session.execute(seqs, tenant)}), within=AWAY_S
        )
    for stream in away:
        cluster.loop.call(stream.held.clear)


def _passed(old: dict[int, int], now: dict[str, int]) -> bool:
    return all(now[f"s{number}"] > mark for number, mark in old.items())


def _copy(trial: Trial, source: Path, target: Path) -> None:
    """Copy the stopped server's folder, owners kept, and start it again."""
    server = trial.cluster.postgres
    server.stop()
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    server.start()


def _restore(trial: Trial, backup: Path) -> None:
    """Put the backup in the database's place, and renew the epoch before anybody else can reach it."""
    cluster, load = trial.cluster, trial.load
    with load.silent():
        cluster.loop.run(cluster.postgres_proxy.cut())
        _copy(trial, backup, cluster.postgres.cluster)
        cluster.loop.call(load.forget)
        environment = {**base_environment(), **cluster.environment, "CARILLON_DATABASE_URL": cluster.postgres.url()}
        carillon = Path(sys.executable).with_name("carillon")
        subprocess.run([carillon, "epoch", "renew"], check=True, env=environment, cwd=PROJECT_ROOT, timeout=RENEW_S)
        cluster.loop.run(cluster.postgres_proxy.heal())


def clock_set(trial: Trial) -> None:
    """Set one process's clock by minutes or an hour, either way, for a while; its monotonic clock goes on."""
    name = trial.random.choice(FAKED)
    step = trial.random.choice(STEPS_S)
    trial.notes[f"{name} {step:+d} s"] += 1
    file = trial.cluster.clocks / name
    file.write_text(f"{step:+d}\n")
    trial.hold(3.0, 6.0)
    file.write_text("+0\n")


FAULTS = [
    Fault(
        name="backup restored, epoch renewed, clients back after seq passed their old one",
        inject=backup_restored,
        alone=True,
    ),
    Fault(name="clock of one process set by 90 s or 50 min, either way", inject=clock_set, shape=CLOCKS),
]
