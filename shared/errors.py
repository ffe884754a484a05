"""The failures that Carillon names. A class's docstring is its message; `status` is what HTTP answers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """One offending field: a dotted path as the sender wrote it, and what is wrong with it.

    `index` is the position in a batch, counted from 0.
    """

    field: str
    message: str
    index: int | None = None

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"field": self.field, "message": self.message}
        return told if self.index is None else {**told, "index": self.index}


class CarillonError(Exception):
    """Something went wrong."""

    status = 500
    type = "about:blank"

    def __init__(
        self, detail: str | None = None, *, errors: tuple[FieldError, ...] = (), retry_after: int | None = None
    ):
        self.title = (type(self).__doc__ or "").split("\n")[0].rstrip(".")
        self.detail = detail or self.title
        self.errors = errors
        self.retry_after = retry_after
        super().__init__(self.detail)

    @classmethod
    def reason(cls) -> str:
        """Return the failure's name in words with hyphens, as in `invalid-input`."""
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in cls.__name__).strip("-")

    @classmethod
    def slug(cls) -> str:
        """Return the problem's type: a URN that clients may compare."""
        return f"urn:carillon:problem:{cls.reason()}"

    def as_json(self) -> dict[str, Any]:
        """Return the RFC 9457 problem document."""
        problem: dict[str, Any] = {
            "type": self.slug(),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            problem["errors"] = [error.as_json() for error in self.errors]
        return problem


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, CarillonError):
        sys.stderr.write(f"{error.detail}\n")
    else:
        sys.__excepthook__(kind, error, trace)


def tell_in_one_sentence() -> None:
    """From now on an error of ours that ends this process is told by its sentence alone; other errors as before.

    For programs that others start (uvicorn, celery) and that have no place to catch what their start raises.
    """
    sys.excepthook = _told


class SettingsError(CarillonError):
    """The settings are wrong."""


class StartError(CarillonError):
    """A part could not be started."""


class CatalogError(CarillonError):
    """The catalog is wrong."""


class InvalidInput(CarillonError):
    """The input is not valid."""

    status = 422


class MalformedRequest(CarillonError):
    """The request cannot be read."""

    status = 400


class MalformedBody(CarillonError):
    """The body cannot be read."""

    status = 400


class BodyTooLarge(CarillonError):
    """The body is too large."""

    status = 413


class UnsupportedContentType(CarillonError):
    """The content type is not supported."""

    status = 415


class Unauthenticated(CarillonError):
    """Valid credentials are needed."""

    status = 401


class Forbidden(CarillonError):
    """The credentials do not allow this."""

    status = 403


class NotFound(CarillonError):
    """There is no such thing."""

    status = 404


class Conflict(CarillonError):
    """It conflicts with what is there."""

    status = 409


class TooManyRequests(CarillonError):
    """Too many requests."""

    status = 429


class Unavailable(CarillonError):
    """It cannot be done at this moment."""

    status = 503
