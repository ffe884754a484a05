"""The door: the one decoder of every JSON body that a producer sends.

What some readers of JSON take and others choke on ends here: PostgreSQL refuses NUL, orjson refuses lone surrogates and
deep nesting, browsers round integers, and one such row would break a whole page. What is no JSON is `MalformedBody`
(400); JSON that is refused is told field by field (422).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.errors import FieldError, InvalidInput, MalformedBody

#: Deeper than any event of the catalog, and far below what every reader of JSON manages.
MAX_DEPTH = 32
#: A body of 64 KiB with more fields than this is no event but a dump.
MAX_KEYS = 1_000
#: PostgreSQL's bigint, in both directions.
MAX_INTEGER = 2**63 - 1
#: An answer names the first so many faults: enough to mend a producer, small enough to send.
MAX_FAULTS = 100
#: Digits of a 64-bit integer with its sign; longer texts are not even converted.
_MAX_DIGITS = 20
#: Characters of a field's name that a fault repeats.
_MAX_SHOWN = 100
#: C0 without tab and newline, DEL, C1, and the surrogates that no pair holds together.
_REFUSED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
#: The names and places that lead to a value, from the outside in.
Path = tuple[str | int, ...]
_Found = Iterator[tuple[Path, str]]
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may have. `characters`: whether control characters and lone surrogates are refused."""

    keys: int = MAX_KEYS
    depth: int = MAX_DEPTH
    characters: bool = True


LIMITS = Limits()


class _Repeated(dict[str, Any]):
    """An object in which a name stands twice; `name` is the first such."""

    name: str


class _OutOfRange:
    """A number that 64 bits, or a double, cannot hold."""


_OUT_OF_RANGE = _OutOfRange()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    seen: set[str] = set()
    repeated = _Repeated(made)
    repeated.name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return repeated


def _integer(digits: str) -> int | _OutOfRange:
    if len(digits) > _MAX_DIGITS:
        return _OUT_OF_RANGE
    value = int(digits)
    return value if -MAX_INTEGER - 1 <= value <= MAX_INTEGER else _OUT_OF_RANGE


def _float(digits: str) -> float | _OutOfRange:
    value = float(digits)
    return value if math.isfinite(value) else _OUT_OF_RANGE


def _no_constant(name: str) -> Any:
    raise MalformedBody(f"The body is not valid JSON: {name} is no JSON number.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_no_constant
)


def parse(body: bytes | str) -> Any:
    """Return the value that `body` spells, not yet fit for use: `faults` tells what is wrong with it.

    Raises `MalformedBody` for what is not JSON in UTF-8, and `InvalidInput` for what is nested beyond reading.
    """
    try:
        return _DECODER.decode(body.decode() if isinstance(body, bytes) else body)
    except UnicodeDecodeError:
        raise MalformedBody("The body is not UTF-8.") from None
    except json.JSONDecodeError as problem:
        raise MalformedBody(f"The body is not valid JSON: {_reason(problem)}.") from None
    except RecursionError:
        raise InvalidInput(errors=(FieldError("", _TOO_DEEP),)) from None


def _reason(problem: json.JSONDecodeError) -> str:
    return f"{problem.msg[:1].lower()}{problem.msg[1:]} at line {problem.lineno}, column {problem.colno}"


def parse_first(text: str, start: int) -> tuple[Any, int]:
    """Return the value that begins at `start` and where it ends; for bodies that are read piece by piece.

    Raises `json.JSONDecodeError` where it is not valid, or not there whole, and otherwise as `parse`.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError:
        raise InvalidInput(errors=(FieldError("", _TOO_DEEP),)) from None


def loads(body: bytes | str, limits: Limits = LIMITS) -> Any:
    """Return the value that `body` spells, safe to store, to hash and to send on.

    Raises `MalformedBody` (400) for what is not JSON, `InvalidInput` (422) naming each field that is refused.
    """
    value = parse(body)
    found = faults(value, limits)
    if found:
        raise InvalidInput(errors=found)
    return value


def faults(value: Any, limits: Limits = LIMITS, index: int | None = None) -> tuple[FieldError, ...]:
    """Return what is wrong with one parsed document, the first hundred; `index` is its place in a batch.

    A field is told as the path of its names, joined by dots; the document itself is the empty path.
    """
    walk = _Walk(limits)
    found = []
    for path, message in walk.faults(value, (), 1):
        found.append(FieldError(shown(path), message, index))
        if len(found) == MAX_FAULTS:
            break
    return tuple(found)


def shown(path: Path) -> str:
    """Return a path that any answer can carry: refused characters escaped, long names cut."""
    return ".".join(_escaped(str(step)) for step in path)


def _escaped(name: str) -> str:
    return _REFUSED.sub(lambda match: f"\\u{ord(match[0]):04x}", name[:_MAX_SHOWN])


def clean(value: Any) -> Any:
    """Return somebody else's document with every refused character left out of its texts; CR LF becomes a newline.

    For payloads whose sender cannot be told to send others. Names of fields stay as they are.
    """
    if isinstance(value, str):
        return _REFUSED.sub("", value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    return {name: clean(item) for name, item in value.items()} if isinstance(value, dict) else value


class _Walk:
    """One way through a document, counting its keys."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._keys_left = limits.keys

    def faults(self, value: Any, path: Path, level: int) -> _Found:
        if isinstance(value, str):
            if self._limits.characters and _REFUSED.search(value):
                yield path, "contains a character that is not allowed"
        elif value is _OUT_OF_RANGE:
            yield path, "is a number out of range"
        elif isinstance(value, dict | list):
            yield from self._inside(value, path, level)

    def _inside(self, value: dict[str, Any] | list[Any], path: Path, level: int) -> _Found:
        if level > self._limits.depth:
            yield path[: self._limits.depth], _TOO_DEEP if self._limits.depth == MAX_DEPTH else "is nested too deep"
        elif isinstance(value, list):
            for place, item in enumerate(value):
                yield from self.faults(item, (*path, place), level + 1)
        else:
            yield from self._names(value, path)
            for name, item in value.items():
                yield from self.faults(item, (*path, name), level + 1)

    def _names(self, value: dict[str, Any], path: Path) -> _Found:
        before, self._keys_left = self._keys_left, self._keys_left - len(value)
        if before >= 0 > self._keys_left:
            yield path, f"brings the document over {self._limits.keys:,} keys"
        if isinstance(value, _Repeated):
            yield (*path, value.name), "stands twice in one object"
        for name in value:
            if self._limits.characters and _REFUSED.search(name):
                yield (*path, name), "has a name with a character that is not allowed"
