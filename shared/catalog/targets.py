"""Whom an event's data reaches, before the directory is asked who they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared import templates
from shared.catalog.fields import MAX_ID, MAX_NAMED
from shared.catalog.model import PLATFORM, SUPER_ADMIN, Audience, EventType
from shared.errors import FieldError, InvalidInput

TargetKind = Literal["recipient", "topic", "role", "everyone"]

#: Who matches several gets the text of the first: named in the data, then topic, then role, then everyone.
_PRECEDENCE: dict[TargetKind, int] = {"recipient": 0, "topic": 1, "role": 2, "everyone": 3}


@dataclass(frozen=True, slots=True)
class Target:
    """A set of recipients: `name` is the recipient's id, the topic or the role, and empty for everyone.

    `tenant` None means every tenant. `audience` has the words for whoever this target reaches first.
    """

    kind: TargetKind
    tenant: str | None
    name: str
    audience: Audience


def targets(event_type: EventType, tenant: str, data: Mapping[str, Any]) -> tuple[Target, ...]:
    """Return whom `data` reaches, in order of precedence: the first target that a person matches decides the text.

    A recipient named more than once stands at the first place only; an actor that an audience excludes is not among its
    named recipients, while topics and roles still contain the actor (`audience.exclude_actor` and `actor_id` tell).
    `own` roles are those of the event's tenant, super admins of all tenants those of the platform. A posted audience
    stays within the event's tenant, unless that is the platform: then a role and everyone span all tenants, and any
    tenant may be named. Raises `InvalidInput`, naming the field, for more than 100 named recipients, and for another
    tenant's name outside the platform.
    """
    found = [
        target
        for audience in event_type.audiences
        if audience.when is None or data.get(audience.when) is True
        for target in _reached(audience, tenant, data)
    ]
    found.sort(key=lambda target: (_PRECEDENCE[target.kind], target.audience.position))
    return tuple(_bounded(_once(found)))


def _reached(audience: Audience, tenant: str, data: Mapping[str, Any]) -> Iterator[Target]:
    if audience.kind == "recipient":
        for name in _named(audience, data):
            yield Target("recipient", tenant, name, audience)
    elif audience.kind == "topic":
        yield Target("topic", tenant, _topic(audience, tenant, data), audience)
    elif audience.kind == "role":
        yield Target("role", _role_tenant(audience, tenant), audience.role or "", audience)
    elif audience.kind == "everyone":
        yield Target("everyone", tenant, "", audience)
    else:
        yield _posted(audience, tenant, data["audience"])


def _named(audience: Audience, data: Mapping[str, Any]) -> list[str]:
    value = data.get(audience.field or "")
    names = [value] if isinstance(value, str) else value or []
    left_out = data.get("actor_id") if audience.exclude_actor else None
    return [name for name in names if name != left_out]


def _topic(audience: Audience, tenant: str, data: Mapping[str, Any]) -> str:
    topic = templates.fill(audience.topic or "", {**data, "tenant": tenant})
    if len(topic) > MAX_ID:
        raise InvalidInput("The topic's name is too long.", errors=(FieldError("", f"makes a topic over {MAX_ID}"),))
    return topic


def _role_tenant(audience: Audience, tenant: str) -> str | None:
    if audience.scope == "own":
        return tenant
    return PLATFORM if audience.role == SUPER_ADMIN else None


def _posted(audience: Audience, tenant: str, posted: Mapping[str, Any]) -> Target:
    """Return the target of a posted audience: one of everyone, role, topic and tenant, as the schema ensures."""
    ((kind, name),) = posted.items()
    everywhere = None if tenant == PLATFORM else tenant
    if kind == "everyone":
        return Target("everyone", everywhere, "", audience)
    if kind == "role":
        return Target("role", everywhere, name, audience)
    if kind == "topic":
        return Target("topic", tenant, name, audience)
    if tenant not in (name, PLATFORM):
        wrong = FieldError("audience.tenant", "may name another tenant only in the platform's events")
        raise InvalidInput("The audience is another tenant.", errors=(wrong,))
    return Target("everyone", name, "", audience)


def _once(found: Iterable[Target]) -> Iterator[Target]:
    named: set[str] = set()
    for target in found:
        if target.kind == "recipient":
            if target.name in named:
                continue
            named.add(target.name)
        yield target


def _bounded(found: Iterable[Target]) -> list[Target]:
    listed = list(found)
    named = [target for target in listed if target.kind == "recipient"]
    if len(named) > MAX_NAMED:
        wrong = FieldError(named[-1].audience.field or "", f"the event names more than {MAX_NAMED} recipients")
        raise InvalidInput(f"An event may name {MAX_NAMED} recipients, this one names {len(named)}.", errors=(wrong,))
    return listed
