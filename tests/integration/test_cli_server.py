"""The command line against a running server and worker, as an operator starts it: a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from shared import demo
from shared.plans import run_plan
from tests import fetch_webhook_examples
from tests.eventually import eventually
from tests.programs import Ended, carillon
from tests.servers import ApiServer, Child, Worker

COMMAND = [sys.executable, "-c", "from shared.cli import main; main()"]
PERSON = ("--tenant", "uni-berlin", "--recipient", "ada")


@pytest.fixture
def env(settings_env: dict[str, str], api_server: ApiServer) -> dict[str, str]:
    """The environment in which the command line finds the server."""
    return {**settings_env, "CARILLON_PORT": str(api_server.port)}


@pytest.fixture
def cli(env: dict[str, str]) -> Callable[..., Ended]:
    """Run a command to its end."""
    return partial(carillon, env)


@pytest.fixture
def people(configured: dict[str, str]) -> None:
    """Those whom `carillon demo seed` registers."""
    run_plan(demo.seed())


class Tail(Child):
    """`carillon tail --json` of one person."""

    def frames(self) -> list[dict[str, Any]]:
        """Return the frames so far, without heartbeats; a line that is not whole yet is left out."""
        whole = self.output.rpartition("\n")[0].splitlines()
        return [frame for line in whole if (frame := json.loads(line))["event"] != "heartbeat"]

    def is_ready(self) -> bool:
        return any(frame["event"] == "connected" for frame in self.frames())

    def created(self) -> list[str]:
        """Return the ids of what was told as new, live or in a replay, in order."""
        told = [frame["data"] for frame in self.frames() if frame["event"] == "notification"]
        return [one["metadata"]["certificateId"] for data in told for one in _notifications(data)]


def _notifications(data: dict[str, Any]) -> list[dict[str, Any]]:
    whole: list[dict[str, Any]] = data["notifications"] if data["type"] == "changed" else [data["notification"]]
    return whole


@pytest.fixture
def tail(env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Tail]]:
    """Start to follow somebody."""
    started: list[Tail] = []

    def start(*options: str) -> Tail:
        made = Tail([*COMMAND, "tail", "--json", *PERSON, *options], env, tmp_path / f"tail-{len(started)}.log")
        started.append(made)
        made.start()
        return made

    yield start
    for made in started:
        made.kill()


def certificate(place: int, **changes: Any) -> dict[str, Any]:
    data = {"student_id": "ada", "certificate_id": f"c-{place}", "badge_title": "Compilers", **changes}
    return {"id": f"e-{place}", "type": "certificate.minted", "tenant": "uni-berlin", "data": data}


def write(path: Path, events: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(event) for event in events))
    return str(path)


def number(env: dict[str, str], statement: LiteralString) -> int:
    """Return the one number that a statement selects."""
    with psycopg.connect(env["CARILLON_DATABASE_URL"]) as session:
        found = session.execute(statement).fetchone()
    assert found is not None
    return int(found[0])


def stored(env: dict[str, str]) -> int:
    return number(env, "SELECT count(*) FROM events")


@pytest.mark.usefixtures("people")
def test_one_event_is_published_without_a_key_in_development_and_the_key_made_for_it_is_revoked(
    cli: Callable[..., Ended], env: dict[str, str]
) -> None:
    data = json.dumps(certificate(1)["data"])
    options = ("publish", "--type", "certificate.minted", "--tenant", "uni-berlin", "--id", "e-1", "--data")
    assert cli(*options, data).stdout == "accepted e-1\n"
    assert cli(*options, data).stdout == "duplicate e-1\n"
    other = cli(*options, json.dumps(certificate(2)["data"]))
    assert (other.returncode, other.stdout) == (1, "")
    assert "was posted before with other content" in other.stderr
    wrong = cli(*options, '{"student_id": 3}')
    assert "data.certificate_id is required" in wrong.stderr
    assert "data.student_id must be a string" in wrong.stderr
    assert number(env, "SELECT count(*) FROM producer_keys WHERE revoked_at IS NULL") == 0


@pytest.mark.usefixtures("people")
def test_a_file_of_events_is_published_in_batches_and_again_without_effect(
    cli: Callable[..., Ended], env: dict[str, str], tmp_path: Path
) -> None:
    events = [certificate(place) for place in range(2_100)]
    lines = write(tmp_path / "events.ndjson", events)
    assert cli("publish", lines).stdout == "2,100 events: 2,100 accepted, 0 duplicate.\n"
    array = tmp_path / "events.json"
    array.write_text(json.dumps([*events, certificate(2_100)], indent=1))
    assert cli("publish", str(array)).stdout == "2,101 events: 1 accepted, 2,100 duplicate.\n"
    assert stored(env) == 2_101


@pytest.mark.usefixtures("people")
def test_a_wrong_event_is_named_by_its_place_and_its_batch_is_not_stored(
    cli: Callable[..., Ended], env: dict[str, str], tmp_path: Path
) -> None:
    events = [certificate(place) for place in range(1_500)]
    del events[1_233]["data"]["badge_title"]
    told = cli("publish", write(tmp_path / "events.ndjson", events))
    assert told.returncode == 1
    assert "event 1234: data.badge_title is required" in told.stderr
    assert stored(env) == 1_000


@pytest.mark.usefixtures("people")
def test_tail_follows_through_a_restart_of_the_server_with_nothing_missing_and_nothing_twice(
    cli: Callable[..., Ended],
    tail: Callable[..., Tail],
    api_server: ApiServer,
    worker: Worker,
    tmp_path: Path,
) -> None:
    following = tail()
    cli("publish", write(tmp_path / "a.ndjson", [certificate(place) for place in range(30)]))
    eventually(lambda: len(following.created()) == 30, within=30.0)
    api_server.restart()
    cli("publish", write(tmp_path / "b.ndjson", [certificate(place) for place in range(30, 60)]))
    eventually(lambda: len(following.created()) >= 60, within=60.0)
    assert sorted(following.created()) == sorted(f"c-{place}" for place in range(60))
    said = [frame["event"] for frame in following.frames() if frame["event"] != "notification"]
    assert said == ["connected", "goodbye", "offline", "connected", "synced"]


@pytest.mark.usefixtures("people")
def test_tail_begins_after_a_cursor_and_ends_at_its_limit(
    cli: Callable[..., Ended], env: dict[str, str], worker: Worker, tmp_path: Path
) -> None:
    cli("publish", write(tmp_path / "a.ndjson", [certificate(place) for place in range(5)]))
    eventually(lambda: number(env, "SELECT max(seq) FROM inboxes") == 5)
    told = cli("tail", "--json", *PERSON, "--since", "1-2", "--limit", "3")
    frames = [json.loads(line) for line in told.stdout.splitlines()]
    assert told.returncode == 0
    assert [(frame["event"], frame["id"]) for frame in frames if frame["event"] != "heartbeat"] == [
        ("connected", "1-2"),
        ("notification", "1-3"),
        ("notification", "1-4"),
        ("notification", "1-5"),
    ]
    readable = cli("tail", *PERSON, "--since", "1-4", "--limit", "1").stdout
    assert "following uni-berlin/ada" in readable
    assert 'Your certificate "Compilers" is now live on Solana blockchain!' in readable
    assert "5 unread" in readable


def test_tail_with_a_wrong_token_ends_with_one_sentence(
    cli: Callable[..., Ended],
) -> None:
    told = cli("tail", *PERSON, "--token", "nonsense")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == "Valid credentials are needed: The token is not valid (401).\n"


def test_github_s_deliveries_reach_the_streams_of_the_people_in_them(
    cli: Callable[..., Ended], worker: Worker, env: dict[str, str]
) -> None:
    fetch_webhook_examples.fetch()
    told = cli("demo", "github", "--rate", "0")
    assert (told.returncode, told.stderr) == (0, "")
    assert "329 deliveries in" in told.stdout
    assert "(answers: 329 × 202)" in told.stdout
    assert "0 events failed, 0 still open" in told.stdout
    assert "octocat" in told.stdout
    status = json.loads(cli("status", "--json").stdout)
    made = status["database"]["inboxes"]["created"]
    assert f"{made} notifications made, {made} told" in told.stdout
    assert status["database"]["events"] == {"done": 329}
    assert made > 0
