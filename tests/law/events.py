"""What producers post in the law test: the events of an inbox, and how far each of them should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

TENANT = "law"
SOURCE = "/law"

numbers = count()


@dataclass(slots=True)
class Posted:
    """An event, and how far it should be."""

    id: str
    key: int
    #: What was posted: the event itself, or the failed logins that became it.
    envelopes: list[dict[str, Any]]
    #: What its notification's message says of it and of no other.
    told: str
    wide: bool = False
    source: str = SOURCE
    planned: bool = False
    #: The chunks that ran.
    run: set[int] = field(default_factory=set)
    cancelled: bool = False
    #: A worker has told it, which is once for ever.
    due: bool = False


#: An event's data and type, for a recipient and what its text is to say.
_DATA: dict[str, Callable[[str, str], tuple[dict[str, Any], str]]] = {
    "plain": lambda name, told: (
        {"student_id": name, "course_id": name, "course_title": told, "grade": "A"},
        "grade.posted",
    ),
    "short": lambda name, told: ({"recipient_id": name, "message": told}, "system.test"),
    "wide": lambda name, told: ({"course_id": name, "course_title": name, "change": told}, "course.updated"),
    "failure": lambda _, account: ({"account_id": account}, "auth.login_failed"),
}


def mark() -> str:
    """Return a text that stands in one event alone."""
    return f"#e{next(numbers)}#"


def envelope(kind: str, name: str, told: str) -> dict[str, Any]:
    """Return a new event of a kind for a recipient, whose text says `told`."""
    data, type = _DATA[kind](name, told)
    return {
        "specversion": "1.0",
        "id": f"e{next(numbers)}",
        "source": SOURCE,
        "type": type,
        "tenant": TENANT,
        "data": data,
    }
