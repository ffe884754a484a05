"""The embedded servers: who reaches them, what they survive, as whom they run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from shared.embedded import ONCE, EmbeddedPostgres, EmbeddedRedis, EmbeddedServer
from shared.errors import StartError
from tests.eventually import eventually

Make = Callable[[type[EmbeddedServer], Path], EmbeddedServer]
SERVERS = pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedRedis])


@pytest.fixture
def make(servers_dir: Path) -> Iterator[Make]:
    """Make servers that are ended with the test."""
    made: list[EmbeddedServer] = []

    def build(kind: type[EmbeddedServer], home: Path) -> EmbeddedServer:
        made.append(kind(home, fast=True))
        return made[-1]

    yield build
    for server in made:
        server.kill()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder below one that only its owner may search, as mktemp -d makes them."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    return closed / "server"


@SERVERS
def test_it_works_below_a_folder_that_others_may_not_search(kind: type[EmbeddedServer], make: Make, home: Path) -> None:
    server = make(kind, home)
    server.start()
    assert server.is_ready()


@SERVERS
def test_it_never_runs_as_root(kind: type[EmbeddedServer], make: Make, home: Path) -> None:
    server = make(kind, home)
    server.start()
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    assert process.uids().real == process.uids().effective == home.stat().st_uid
    assert process.uids().real != 0 or os.geteuid() == 0


@SERVERS
def test_it_listens_on_loopback_only(kind: type[EmbeddedServer], make: Make, home: Path) -> None:
    server = make(kind, home)
    server.start()
    assert server.process is not None
    listening = [c.laddr for c in psutil.Process(server.process.pid).net_connections() if c.status == "LISTEN"]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", server.port)]


@SERVERS
def test_its_password_is_private_and_in_no_process_list(kind: type[EmbeddedServer], make: Make, home: Path) -> None:
    server = make(kind, home)
    server.start()
    assert server.process is not None
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "password").stat().st_mode & 0o777 == 0o600
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    told = [line for process in family if (line := _visible(process)) is not None]
    assert told
    assert [line for line in told if server.password in line] == []


def _visible(process: psutil.Process) -> str | None:
    """Return what others see of a process; None when it ended meanwhile, as PostgreSQL's helpers do at a start."""
    try:
        return " ".join([*process.cmdline(), *process.environ().values()])
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None


def test_postgres_refuses_whoever_lacks_the_password(make: Make, home: Path) -> None:
    server = make(EmbeddedPostgres, home)
    server.start()
    assert isinstance(server, EmbeddedPostgres)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url().replace(server.password, "guessed"))


def test_redis_refuses_whoever_lacks_the_password(make: Make, home: Path) -> None:
    server = make(EmbeddedRedis, home)
    server.start()
    with redis.Redis(port=server.port, retry=ONCE) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@SERVERS
def test_a_second_start_keeps_address_and_password(kind: type[EmbeddedServer], make: Make, home: Path) -> None:
    first = make(kind, home)
    first.start()
    before = (first.port, first.password)
    first.stop()
    second = make(kind, home)
    second.start()
    assert (second.port, second.password) == before


@SERVERS
def test_a_port_that_another_took_meanwhile_is_exchanged(kind: type[EmbeddedServer], make: Make, home: Path) -> None:
    first = make(kind, home)
    first.start()
    taken = first.port
    first.stop()
    with socket.create_server(("127.0.0.1", taken)):
        second = make(kind, home)
        second.start()
        assert second.port != taken


@SERVERS
def test_a_port_that_others_know_by_now_is_not_exchanged(kind: type[EmbeddedServer], make: Make, home: Path) -> None:
    server = make(kind, home)
    server.start()
    server.stop()
    with socket.create_server(("127.0.0.1", server.port)), pytest.raises(StartError, match="cannot have its port"):
        server.start()


@SERVERS
def test_a_pid_file_that_names_a_stranger_is_no_obstacle(kind: type[EmbeddedServer], make: Make, home: Path) -> None:
    first = make(kind, home)
    first.start()
    text = first.pid_file.read_text()
    first.stop()
    first.pid_file.write_text(text.replace(text.split("\n")[0], str(os.getpid())))
    second = make(kind, home)
    second.start()
    assert second.is_ready()


@SERVERS
def test_an_orphan_of_an_earlier_start_is_stopped_first(kind: type[EmbeddedServer], make: Make, home: Path) -> None:
    orphan = make(kind, home)
    orphan.start()
    second = make(kind, home)
    second.start()
    assert orphan.process is not None
    assert orphan.process.wait(10) == 0
    assert second.is_ready()


@SERVERS
def test_it_stops_when_whoever_started_it_is_killed(kind: type[EmbeddedServer], home: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from shared import embedded\n"
        f"server = embedded.{kind.__name__}(Path(sys.argv[1]), fast=True)\n"
        "server.start(); print(server.process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        server = psutil.Process(int(starter.stdout.readline()))
        assert server.is_running()
        starter.send_signal(signal.SIGKILL)
    eventually(lambda: not server.is_running())


def test_an_interrupted_initdb_leaves_nothing_that_looks_like_a_cluster(make: Make, home: Path) -> None:
    half_made = home / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18")
    server = make(EmbeddedPostgres, home)
    server.start()
    assert server.is_ready()


def test_a_server_that_cannot_start_gives_its_last_words(make: Make, home: Path) -> None:
    server = make(EmbeddedPostgres, home)
    server.start()
    server.stop()
    (home / "data" / "postgresql.conf").write_text("nonsense = on\n")
    with pytest.raises(StartError, match='unrecognized configuration parameter "nonsense"'):
        server.start()
