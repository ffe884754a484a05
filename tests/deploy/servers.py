"""The servers of a larger installation, from Debian's packages: a Redis Cluster, PgBouncer and RabbitMQ."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import redis

from shared.broker import probing
from shared.embedded import LOOPBACK, ONCE, EmbeddedPostgres, EmbeddedServer, free_port, port_is_free
from shared.errors import StartError
from shared.files import write_private
from shared.redis_users import STREAM, directives, password_of
from tests.eventually import eventually

SLOTS = 16_384
ANSWER_S = 5.0
#: RabbitMQ's start takes 5 s of a processor: 20 to 90 s beside other work, seen over 180 s at a load of 16.
RABBITMQ_START_S = 600.0
#: One scheduler that sleeps when it has nothing to do: Erlang's spin, and take what the product would have.
ERLANG = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
CLUSTER_WITHIN_S = 60.0


def installed(program: str, package: str) -> Path:
    """Return where a program is; raises `StartError` with the package that has it."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/rabbitmq/bin")
    if found is None:
        raise StartError(f"{program} is not installed: apt-get install {package}.")
    return Path(found)


class RedisNode(EmbeddedServer):
    """One server of a cluster, Redis 7 or newer. All have one password."""

    name = "Redis"
    stop_signal = signal.SIGTERM

    def __init__(self, home: Path, password: str) -> None:
        super().__init__(home, fast=True)
        self._password = password

    @property
    def program(self) -> Path:
        return installed("redis-server", "redis-server")

    @property
    def pid_file(self) -> Path:
        return self.home / "redis.pid"

    @property
    def password(self) -> str:
        return self._password

    @property
    def address(self) -> str:
        """The server as `CARILLON_REDIS_CLUSTER_NODES` names it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def bus_port(self) -> int:
        """Where the cluster's servers talk to each other; Redis' own choice may lie beyond the last port."""
        file = self.home / "bus"
        if not file.exists():
            write_private(file, str(free_port()), self.account)
        return int(file.read_text())

    def client(self) -> redis.Redis:
        """Return a client of this server alone, as who may do all."""
        return redis.Redis(LOOPBACK, self.port, password=self.password, socket_timeout=ANSWER_S, retry=ONCE)

    def _set_up(self) -> None:
        settings = {
            "bind": LOOPBACK, "port": self.port, "requirepass": self.password, "daemonize": "no",
            "dir": f'"{self.home}"', "pidfile": f'"{self.pid_file}"', "save": '""', "appendonly": "no",
            "maxmemory-policy": "noeviction", "cluster-enabled": "yes", "cluster-port": self.bus_port,
            "cluster-node-timeout": 2_000, "cluster-require-full-coverage": "no",
        }  # fmt: skip
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        write_private(self.home / "redis.conf", text + directives(self.password), self.account)

    def _arguments(self) -> list[str]:
        return [str(self.home / "redis.conf")]

    def is_ready(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class RedisServers:
    """A cluster of three servers without replicas."""

    def __init__(self, folder: Path, password: str) -> None:
        self.nodes = [RedisNode(folder / f"redis-{number}", password) for number in range(3)]

    def start(self) -> None:
        """Start them, give each a third of the slots, and return once all agree."""
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        with self.nodes[0].client() as client:
            for other in self.nodes[1:]:
                client.execute_command("CLUSTER", "MEET", LOOPBACK, other.port, other.bus_port)
        eventually(self._agree, within=CLUSTER_WITHIN_S)

    def _agree(self) -> bool:
        return all(self._is_whole(node) for node in self.nodes)

    @staticmethod
    def _is_whole(node: RedisNode) -> bool:
        with node.client() as client:
            told: Any = client.execute_command("CLUSTER", "INFO")
        text = "\n".join(f"{k}:{v}" for k, v in told.items()) if isinstance(told, dict) else told.decode()
        return "cluster_state:ok" in text and "cluster_known_nodes:3" in text and f"slots_ok:{SLOTS}" in text

    def stop(self) -> None:
        """End them all."""
        for node in self.nodes:
            node.kill()

    def environment(self) -> dict[str, str]:
        """Return the settings by which the product finds the cluster, as its own user."""
        first, *others = self.nodes
        secret = password_of(STREAM, first.password)
        return {
            "CARILLON_REDIS_URL": f"redis://{STREAM}:{secret}@{first.address}",
            "CARILLON_REDIS_CLUSTER_NODES": ",".join(node.address for node in others),
        }

    def owner_of(self, slot: int) -> RedisNode:
        """Return the server that has a slot."""
        with self.nodes[0].client() as client:
            ranges: Any = client.execute_command("CLUSTER SLOTS")
        found = ranges.items() if isinstance(ranges, dict) else [((row[0], row[1]), row[2]) for row in ranges]
        for (first, last), told in found:
            port = told["primary"][1] if isinstance(told, dict) else told[1]
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def move(self, slot: int) -> None:
        """Give a slot, which holds no keys, to another server; all are told."""
        source = self.owner_of(slot)
        target = next(node for node in self.nodes if node is not source)
        with target.client() as client:
            name = client.execute_command("CLUSTER", "MYID")
        for node in (target, source, *(other for other in self.nodes if other not in (source, target))):
            with node.client() as client:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)


class PgBouncer(EmbeddedServer):
    """A pooler of transactions before the embedded PostgreSQL, with few connections to it for many clients."""

    name = "PgBouncer"
    stop_signal = signal.SIGTERM
    #: Fewer than the API's pool alone would have: whoever leaves something in a session meets it again.
    pool_size = 3

    def __init__(self, home: Path, server: EmbeddedPostgres) -> None:
        super().__init__(home, fast=True)
        self._server = server

    @property
    def program(self) -> Path:
        return installed("pgbouncer", "pgbouncer")

    @property
    def pid_file(self) -> Path:
        return self.home / "pgbouncer.pid"

    def url(self, direct: str) -> str:
        """Return the address through the pooler of a database whose own address is `direct`."""
        return direct.replace(f":{self._server.port}/", f":{self.port}/")

    def _set_up(self) -> None:
        application = self._server.application_url().split(":")[2].split("@")[0]
        users = f'"{self._server.user}" "{self._server.password}"\n"{self._server.application}" "{application}"\n'
        write_private(self.home / "users.txt", users, self.account)
        text = (
            f"[databases]\n* = host={LOOPBACK} port={self._server.port}\n"
            f"[pgbouncer]\nlisten_addr = {LOOPBACK}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {self.home / 'users.txt'}\npidfile = {self.pid_file}\n"
            f"pool_mode = transaction\ndefault_pool_size = {self.pool_size}\nmax_client_conn = 500\n"
        )
        write_private(self.home / "pgbouncer.ini", text, self.account)

    def _arguments(self) -> list[str]:
        return [str(self.home / "pgbouncer.ini")]

    def is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url(self._server.url("postgres")), connect_timeout=2, prepare_threshold=None):
                return True
        except psycopg.OperationalError:
            return False


class RabbitMQ(EmbeddedServer):
    """One RabbitMQ, with a port mapper of its own, which ends with it."""

    name = "RabbitMQ"
    stop_signal = signal.SIGTERM

    @property
    def program(self) -> Path:
        return Path("/usr/bin/env")

    @property
    def pid_file(self) -> Path:
        return self.home / "rabbit.pid"

    def url(self) -> str:
        """Return the broker's address."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}//"

    def _variables(self) -> dict[str, str]:
        return {
            "HOME": str(self.home), "RABBITMQ_NODENAME": f"carillon{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK, "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": self._port_of("dist"), "ERL_EPMD_PORT": self._port_of("epmd"),
            "ERL_EPMD_ADDRESS": LOOPBACK, "RABBITMQ_MNESIA_BASE": str(self.home / "data"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"), "RABBITMQ_PID_FILE": str(self.pid_file),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "plugins"), "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }  # fmt: skip

    def _port_of(self, what: str) -> str:
        file = self.home / what
        if not file.exists():
            write_private(file, str(free_port()), self.account)
        return file.read_text()

    def _set_up(self) -> None:
        write_private(self.home / "plugins", "[].\n", self.account)
        installed("rabbitmq-server", "rabbitmq-server")

    def _arguments(self) -> list[str]:
        server = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        return [*(f"{name}={value}" for name, value in self._variables().items()), str(server)]

    def start(self, timeout: float = RABBITMQ_START_S) -> None:
        super().start(timeout)

    def is_ready(self) -> bool:
        # Asked fifty times a second for many seconds: while nobody listens a client need not be made.
        if port_is_free(self.port):
            return False
        with probing(self.url(), ANSWER_S) as probe:
            return probe.takes_messages()

    def queues(self) -> dict[str, str]:
        """Return the kind of each queue by its name."""
        listed = self._control("list_queues", "--quiet", "--no-table-headers", "name", "type")
        return dict(line.split("\t") for line in listed.splitlines() if line)

    def _control(self, *arguments: str) -> str:
        program = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
        variables = [f"{name}={value}" for name, value in self._variables().items()]
        command = self._launched([str(self.program), *variables, str(program), *arguments])
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=self.home, timeout=120)
        return done.stdout

    def kill(self) -> None:
        super().kill()
        subprocess.run(
            ["epmd", "-port", self._port_of("epmd"), "-kill"],
            capture_output=True, check=False, env={**self.environment(), "ERL_EPMD_RELAXED_COMMAND_CHECK": "1"},
        )  # fmt: skip
