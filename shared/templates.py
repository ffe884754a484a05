"""The one template environment: sandboxed, strict about names, plain text.

Templates see the data fields (an absent optional one is none), `tenant`, and, where they say so, `recipient` with
`id`, `locale` and `attributes`: such a text is personal and is rendered for each recipient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared import action_url
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from shared.catalog import Audience, EventType

#: An event's body has the same bound: a text cannot need more than all of its data.
MAX_OUTPUT_BYTES = 64 * 1024
#: Compiled sources kept; several times what the whole catalog has, so that nothing is compiled twice.
_CACHED_TEMPLATES = 4_096
#: The cents of an amount that is told with a fraction.
_DECIMALS = 2


class TemplateFailed(InvalidInput):
    """The event's data cannot be put into its texts."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A notification's texts: a title of one line, a message, and a normalised action URL or none."""

    title: str
    message: str
    action_url: str | None


def segment(value: Any) -> str:
    """Return `value` as one segment of an URL's path.

    `.` and `..` would be taken as steps in the path even when they are percent-encoded once, so they are encoded twice.
    """
    text = str(value)
    return quote(text, safe="") if text.strip(".") or len(text) > len("..") else quote(text.replace(".", "%2E"))


def day(value: str) -> str:
    """Return the calendar day of an RFC 3339 date or time, as the producer wrote it: `2026-03-01`."""
    return datetime.fromisoformat(value).date().isoformat()


def minute(value: str) -> str:
    """Return the minute of an RFC 3339 time, in UTC: `2026-03-01 09:04 UTC`; a day is its first one."""
    moment = datetime.fromisoformat(value)
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{aware:%Y-%m-%d %H:%M} UTC"


def amount(value: float | str) -> str:
    """Return an amount of money without an exponent, a fraction with two decimals at least: 49.9 as `49.90`."""
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    if exact == exact.to_integral_value() and not isinstance(value, str):
        return f"{exact:.0f}"
    decimals = -int(exact.as_tuple().exponent)
    return f"{exact:.{_DECIMALS}f}" if 0 < decimals < _DECIMALS else f"{exact:f}"


def _nothing_for_none(value: Any) -> Any:
    return "" if value is None else value


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, finalize=_nothing_for_none)
    made.filters.update(segment=segment, day=day, minute=minute, amount=amount)
    return made


ENVIRONMENT = _environment()
#: What templates see besides the data.
CONTEXT_NAMES = frozenset({"tenant", "recipient"})


@lru_cache(maxsize=_CACHED_TEMPLATES)
def compiled(source: str) -> Template:
    """Return the compiled source. Raises `jinja2.TemplateSyntaxError`."""
    return ENVIRONMENT.from_string(source)


@lru_cache(maxsize=_CACHED_TEMPLATES)
def names_used(source: str) -> frozenset[str]:
    """Return every name that the source reads, in conditions too. Raises `jinja2.TemplateSyntaxError`."""
    return frozenset(meta.find_undeclared_variables(ENVIRONMENT.parse(source)))


def is_personal(audience: Audience) -> bool:
    """Return whether the audience's texts differ from recipient to recipient: one of them reads `recipient`."""
    sources = (audience.title, audience.message, audience.action_url or "")
    return any("recipient" in names_used(source) for source in sources)


def fill(source: str, context: Mapping[str, Any]) -> str:
    """Return the source filled in. Raises `TemplateFailed`, also for an output over 64 KiB (never built whole)."""
    if "{" not in source:
        return source  # most titles: 7 µs saved for each text
    parts: list[str] = []
    size = 0
    try:
        for part in compiled(source).generate(context):
            size += len(part.encode())
            if size > MAX_OUTPUT_BYTES:
                raise TemplateFailed(f"A text is larger than {MAX_OUTPUT_BYTES} bytes.")
            parts.append(part)
    except TemplateSyntaxError:
        raise
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as problem:
        raise TemplateFailed(f"A text cannot be rendered ({type(problem).__name__}).") from None
    return "".join(parts)


def context_of(
    event_type: EventType, data: Mapping[str, Any], *, tenant: str, recipient: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what the type's templates see: every declared field, none where the data leaves it out."""
    context: dict[str, Any] = dict.fromkeys(event_type.properties)
    context.update(data)
    context["tenant"] = tenant
    if recipient is not None:
        context["recipient"] = recipient
    return context


def render(
    event_type: EventType,
    audience: Audience,
    data: Mapping[str, Any],
    *,
    tenant: str,
    recipient: Mapping[str, Any] | None = None,
) -> Rendered:
    """Return the audience's texts for data that fits the type's schema.

    Line breaks in the title become spaces. An action URL that renders to nothing is none. Raises `TemplateFailed`
    (a personal text without `recipient` included) and `InvalidActionUrl`.
    """
    context = context_of(event_type, data, tenant=tenant, recipient=recipient)
    title = " ".join(fill(audience.title, context).splitlines()).strip()
    url = fill(audience.action_url, context).strip(" ") if audience.action_url else ""
    return Rendered(title, fill(audience.message, context).strip(), action_url.normalise(url) if url else None)
