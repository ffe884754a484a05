"""`carillon up`: the whole product on one machine, from a first start to nothing left."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pytest

from shared import runtime
from shared.embedded import EmbeddedRedis, free_port
from shared.redis_users import RULES, password_of
from tests.eventually import eventually
from tests.servers import Child

PARTS = {"postgresql", "redis", "api", "urgent", "fan_out", "maintenance", "beat", "flower"}
#: Longer than the longest grace of a part (45 s for a busy worker).
STOP_SECONDS = 60.0


class Up(Child):
    """A `carillon up` with a data folder and ports of its own."""

    #: Eight programs start at once, beside whatever else the machine does.
    start_seconds = 180.0

    def __init__(self, folder: Path, **extra: str) -> None:
        self.data_dir = folder / "data"
        self.port, self.flower_port = free_port(), free_port()
        environment = {
            "CARILLON_DATA_DIR": str(self.data_dir),
            "CARILLON_PORT": str(self.port),
            "CARILLON_FLOWER_PORT": str(self.flower_port),
            "CARILLON_START_TIMEOUT_SECONDS": "60",
            **extra,
        }
        arguments = [sys.executable, "-c", "from shared.cli import main; main()", "up"]
        super().__init__(arguments, environment, folder / "up.log")
        self._shown = 0

    def spawn(self) -> None:
        self._shown = self.panels
        super().spawn()

    @property
    def panels(self) -> int:
        """How often it said that all is running."""
        return self.output.count("Carillon is running") if self.log.exists() else 0

    def is_ready(self) -> bool:
        return self.panels > self._shown

    def ended(self) -> int:
        """Start it where it cannot, and return the exit code that it ends with."""
        self.spawn()
        assert self.process is not None
        return self.process.wait(STOP_SECONDS)

    def interrupted(self) -> int:
        """Press Ctrl-C, and return the exit code that it ends with."""
        assert self.process is not None
        self.signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)

    @property
    def last_line(self) -> str:
        """What it said last."""
        return self.output.rstrip("\n").split("\n")[-1]

    @property
    def published(self) -> dict[str, str]:
        """The environment that it published for the checkout's other processes."""
        told: dict[str, str] = json.loads((self.data_dir / "runtime.json").read_text())["environment"]
        return told

    def family(self) -> list[psutil.Process]:
        """Every living process of the machine that belongs to this data folder, itself included."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            ours = process.environ().get("CARILLON_DATA_DIR") == str(self.data_dir)
            return bool(ours or process.cwd().startswith(str(self.data_dir)))
        except psutil.Error:
            return False

    def part(self, word: str) -> psutil.Process:
        """The process of one part, by a word of its command line."""
        (found,) = [p for p in psutil.Process(self.pid).children() if any(word in item for item in p.cmdline())]
        return found


@pytest.fixture
def new_up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Make as many as asked for, not yet started; all are ended after the test."""
    made: list[Up] = []

    def make(**extra: str) -> Up:
        made.append(Up(tmp_path, **extra))
        return made[-1]

    yield make
    for up in made:
        up.kill()
        eventually(lambda up=up: not up.family())  # type: ignore[misc]


def test_ctrl_c_leaves_nothing_running_and_a_second_start_finds_its_data(new_up: Callable[..., Up]) -> None:
    up = new_up()
    up.start()
    before = up.published
    with psycopg.connect(before["CARILLON_DATABASE_OWNER_URL"]) as session:
        session.execute("CREATE TABLE kept AS SELECT 42 AS number")
    assert up.interrupted() == 0
    assert up.family() == []
    assert not (up.data_dir / "runtime.json").exists()

    up.start()
    assert up.published == before
    with psycopg.connect(up.published["CARILLON_DATABASE_OWNER_URL"]) as session:
        assert session.execute("SELECT number FROM kept").fetchone() == (42,)
        used = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'carillon%'"
        assert session.execute(used).fetchall() == [("carillon_login",)]
    assert up.stop() == 0
    assert up.family() == []


def test_ctrl_c_while_it_starts_leaves_nothing_running(new_up: Callable[..., Up]) -> None:
    up = new_up()
    up.spawn()
    eventually(lambda: "redis │ " in up.output, within=30)
    assert up.interrupted() == 0
    assert up.panels == 0
    assert up.family() == []


def test_a_killed_part_comes_back_and_a_killed_supervisor_leaves_nothing(new_up: Callable[..., Up]) -> None:
    up = new_up()
    up.start()
    assert httpx.get(f"http://127.0.0.1:{up.port}/readyz?full=1").json()["degraded"] == []

    killed = up.part("uvicorn")
    killed.kill()
    eventually(lambda: "carillon │ api was killed by SIGKILL; it is started again in " in up.output)
    eventually(lambda: _status(f"http://127.0.0.1:{up.port}/readyz") == 200, within=30)
    assert up.part("uvicorn").pid != killed.pid

    killed = up.part("/postgres")
    killed.kill()
    eventually(lambda: "carillon │ postgresql was killed by SIGKILL; it is started again in " in up.output)
    eventually(lambda: _status(f"http://127.0.0.1:{up.port}/readyz") == 200, within=30)

    up.signal(signal.SIGKILL)
    eventually(lambda: not up.family(), within=20)


def _status(url: str, **options: object) -> int | None:
    try:
        return httpx.get(url, timeout=5.0, **options).status_code  # type: ignore[arg-type]
    except httpx.HTTPError:
        return None


def test_all_parts_log_and_no_secret_is_in_a_log_or_a_process_list(new_up: Callable[..., Up]) -> None:
    up = new_up()
    up.start()
    assert {line.split("│")[0].strip() for line in up.output.splitlines() if " │ " in line} >= PARTS - {
        "beat",
        "flower",
    }
    password = up.published["CARILLON_FLOWER_PASSWORD"]
    secrets = json.loads((up.data_dir / "secrets.json").read_text()).values()
    hidden = {*secrets, *((up.data_dir / name / "password").read_text() for name in ("postgres", "redis"))}
    own = (up.data_dir / "redis" / "password").read_text()
    users = {password_of(user, own) for user in RULES}
    addresses = (up.published["CARILLON_REDIS_URL"], up.published["CARILLON_BROKER_URL"])
    assert [urlsplit(address).password in users for address in addresses] == [True, True]
    hidden |= users
    commands = "\n".join(" ".join(process.cmdline()) for process in up.family())
    assert [secret for secret in hidden if secret in commands] == []
    # The panel shows Flower's password, once, to whoever started it; the log itself shows none.
    assert [secret for secret in hidden - {password} if secret in up.output] == []
    assert up.output.count(password) == 1
    private = [up.data_dir / "secrets.json", up.data_dir / "runtime.json"]
    assert [file.stat().st_mode & 0o777 for file in private] == [0o600, 0o600]

    flower = f"http://127.0.0.1:{up.flower_port}/workers"
    assert _status(flower) == 401
    assert _status(flower, auth=("operator", password)) == 200

    second = new_up()
    second.log = second.log.with_name("second.log")
    assert second.ended() == 1
    assert second.last_line == (
        f"Carillon already runs with the data in {up.data_dir} (process {up.pid}): "
        "stop that one with Ctrl-C, or set CARILLON_DATA_DIR to another folder."
    )
    assert httpx.get(f"http://127.0.0.1:{up.port}/readyz?full=1").status_code == 200


def test_servers_that_are_given_are_used_and_no_embedded_one_starts(
    new_up: Callable[..., Up], empty_database_url: str, redis_url: str, broker_url: str
) -> None:
    up = new_up(CARILLON_DATABASE_URL=empty_database_url, CARILLON_REDIS_URL=redis_url, CARILLON_BROKER_URL=broker_url)
    up.start()
    assert up.published["CARILLON_DATABASE_URL"] == empty_database_url
    with psycopg.connect(empty_database_url) as session:
        assert session.execute("SELECT count(*) FROM deployment").fetchone() == (1,)
    assert sorted(path.name for path in up.data_dir.iterdir() if path.is_dir()) == ["metrics"]
    assert up.stop() == 0
    assert up.family() == []


@pytest.mark.parametrize("name", ["PORT", "FLOWER_PORT"])
def test_a_taken_port_is_told_in_one_sentence_before_anything_starts(new_up: Callable[..., Up], name: str) -> None:
    up = new_up()
    taken = up.port if name == "PORT" else up.flower_port
    with socket.create_server(("127.0.0.1", taken)):
        assert up.ended() == 1
    assert up.output == (
        f"Port {taken} is taken by another program: stop that one, or choose another port as in "
        f"`make up {name}={taken + 1}`.\n"
    )
    assert not (up.data_dir / "postgres").exists()


def test_one_port_for_both_is_told_in_one_sentence(new_up: Callable[..., Up]) -> None:
    port = free_port()
    up = new_up(CARILLON_PORT=str(port), CARILLON_FLOWER_PORT=str(port))
    assert up.ended() == 1
    assert up.output == f"PORT and FLOWER_PORT are both {port}: give them different numbers.\n"


def test_a_wrong_setting_is_told_in_one_sentence(new_up: Callable[..., Up]) -> None:
    up = new_up(CARILLON_PORT="ninety")
    assert up.ended() == 1
    assert up.output.startswith("CARILLON_PORT: ")
    assert up.output.count("\n") == 1


def test_a_database_that_is_away_is_told_in_one_sentence_after_the_bounded_wait(
    new_up: Callable[..., Up], redis_url: str, broker_url: str
) -> None:
    port = free_port()
    up = new_up(
        CARILLON_DATABASE_URL=f"postgresql://app:hidden@127.0.0.1:{port}/carillon",
        CARILLON_REDIS_URL=redis_url,
        CARILLON_BROKER_URL=broker_url,
        CARILLON_START_TIMEOUT_SECONDS="1",
    )
    assert up.ended() == 1
    assert f"127.0.0.1:{port}/carillon does not answer" in up.last_line
    assert "Connection refused" in up.last_line
    assert "CARILLON_DATABASE_URL" in up.last_line
    assert "hidden" not in up.output
    assert up.family() == []


@pytest.mark.parametrize("name", ["CARILLON_REDIS_URL", "CARILLON_BROKER_URL"])
def test_a_redis_that_is_away_is_told_in_one_sentence(
    new_up: Callable[..., Up], database_url: str, redis_url: str, name: str
) -> None:
    away = f"redis://:hidden@127.0.0.1:{free_port()}/0"
    urls = {"CARILLON_REDIS_URL": redis_url, "CARILLON_BROKER_URL": redis_url, name: away}
    up = new_up(CARILLON_DATABASE_URL=database_url, CARILLON_START_TIMEOUT_SECONDS="1", **urls)
    assert up.ended() == 1
    assert "does not answer" in up.last_line
    assert up.last_line.endswith(f"start it, or correct {name}.")
    assert "hidden" not in up.output


def test_a_stopped_redis_is_away_as_well(
    new_up: Callable[..., Up], database_url: str, private_redis: EmbeddedRedis
) -> None:
    assert private_redis.process is not None
    private_redis.process.send_signal(signal.SIGSTOP)
    up = new_up(
        CARILLON_DATABASE_URL=database_url,
        CARILLON_REDIS_URL=private_redis.url(),
        CARILLON_BROKER_URL=private_redis.url(1),
        CARILLON_START_TIMEOUT_SECONDS="1",
    )
    assert up.ended() == 1
    assert "does not answer" in up.last_line


def test_what_a_killed_one_published_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.settings import load_settings

    monkeypatch.setenv("CARILLON_DATA_DIR", str(tmp_path))
    for name in ("CARILLON_DATABASE_URL", "CARILLON_REDIS_URL", "CARILLON_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    runtime.publish(tmp_path, {"CARILLON_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"})
    assert load_settings().database_url is not None
    path = tmp_path / "runtime.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": _ended_process()}))
    assert load_settings().database_url is None


def _ended_process() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
