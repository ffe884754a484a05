"""What can go wrong, and what Carillon says about it."""

from __future__ import annotations

from typing import Any


class CarillonError(Exception):
    """Carillon did not do what was asked."""


class Unavailable(CarillonError):
    """The server stayed away, or busy, for as long as the client is patient. Nothing is known about the last try."""


def _named(error: dict[str, Any]) -> str:
    place = "" if error.get("index") is None else f"[{error['index']}] "
    return f"{place}{error.get('field')} {error.get('message')}"


class Refused(CarillonError):
    """The server refused: `status`, its `problem` (RFC 9457), and `errors`, each with `field`, `message`, `index`."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.errors: list[dict[str, Any]] = problem.get("errors", [])
        named = "; ".join(map(_named, self.errors))
        super().__init__(" ".join(filter(None, (str(status), problem.get("detail"), named))))
