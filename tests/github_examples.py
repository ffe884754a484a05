"""GitHub's example deliveries, and the hand-written table of whom they tell what."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.fetch_webhook_examples import fetch, payloads

TABLE = Path(__file__).resolve().parent / "github_table.toml"


@dataclass(frozen=True)
class Told:
    """One notification: for whom, in which words, linking where."""

    to: str
    title: str
    message: str
    link: str | None


@dataclass(frozen=True)
class Row:
    """One row of the table; rows of one tenant happen in order."""

    tenant: str
    event: str
    payload: dict[str, Any]
    why: str
    type: str
    told: frozenset[Told]


@lru_cache(maxsize=1)
def examples() -> dict[str, list[dict[str, Any]]]:
    """Return the example payloads by the name of their event, fetched if they are not there yet."""
    fetch()
    webhooks = json.loads(payloads().read_text(encoding="utf-8"))
    return {webhook["name"]: webhook["examples"] for webhook in webhooks}


def every_example() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, a delivery id of its own, and payload of each of the 329 examples."""
    for name, found in examples().items():
        for place, payload in enumerate(found):
            yield name, f"{name}-{place}", payload


def table() -> list[Row]:
    """Return the table's rows, each with its payload as changed."""
    content = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [_row(place, entry) for place, entry in enumerate(content["delivery"])]


def people() -> list[str]:
    """Return the logins that occur in the table."""
    found: list[str] = tomllib.loads(TABLE.read_text(encoding="utf-8"))["people"]
    return found


def _row(place: int, entry: dict[str, Any]) -> Row:
    payload = copy.deepcopy(examples()[entry["event"]][entry["example"]])
    for path, value in entry.get("changes", {}).items():
        _change(payload, path.split("."), value)
    told = frozenset(Told(**one) for one in entry.get("told", ()))
    tenant = f"scene-{entry['scene']}" if "scene" in entry else f"row-{place}"
    return Row(tenant, entry["event"], payload, entry["why"], entry["type"], told)


def _change(payload: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        payload = payload[name]
    payload[path[-1]] = value
