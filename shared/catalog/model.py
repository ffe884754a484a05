"""What an event type is, once it is loaded: immutable, and knowing how to judge an event's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from shared.catalog import fields
from shared.errors import FieldError

Kind = Literal["recipient", "topic", "role", "everyone", "posted"]
Scope = Literal["own", "all"]
Priority = Literal["LOW", "NORMAL", "HIGH", "URGENT"]

#: The tenant of the platform itself, where the super admins live.
PLATFORM = "platform"
SUPER_ADMIN = "super_admin"
#: The roles that every installation has; a catalog file may declare more.
KNOWN_ROLES = frozenset({SUPER_ADMIN, "university_admin", "student", "agent", "instructor", "sales_manager"})


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is told, and in which words: `title`, `message` and `action_url` are Jinja2 sources.

    `kind` says which of the others counts: `field` names a data field with one recipient id or a list of them, `topic`
    is a template, `role` is limited by `scope` to the event's tenant (`own`) or to none (`all`). For `posted` the
    event's own `audience` object decides. Where `when` names a boolean data field, nobody is told unless it is true.
    """

    position: int
    kind: Kind
    field: str | None
    topic: str | None
    role: str | None
    scope: Scope
    exclude_actor: bool
    when: str | None
    title: str
    message: str
    action_url: str | None


@dataclass(frozen=True, slots=True, eq=False)
class EventType:
    """One entry of the catalog. `example` is data that fits `schema`; both are read-only by convention.

    `cap`: how many of the type an inbox shows at most, beside the inbox's own cap; None: as many as that.
    """

    name: str
    notification_type: str
    domain: str
    category: str
    priority: Priority
    time_to_live: timedelta | None
    cap: int | None
    schema: dict[str, Any]
    metadata: tuple[str, ...]
    audiences: tuple[Audience, ...]
    shown: bool
    description: str
    example: dict[str, Any]
    retired: bool
    _validator: fields.Validator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_validator", fields.validator(self.schema))

    @property
    def properties(self) -> dict[str, Any]:
        """The schema of each data field, by its name."""
        declared: dict[str, Any] = self.schema["properties"]
        return declared

    def errors(self, data: Any) -> tuple[FieldError, ...]:
        """Return what keeps `data` from fitting the schema, each field by its dotted path within the data.

        Empty means that it fits. Fields are named in the order of their paths; the messages never quote a value, so
        they may be logged. The path of the data itself (when it is no object) is the empty string.
        """
        return fields.errors(self._validator, data)

    def metadata_of(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the notification's metadata: the named fields in camelCase; absent optional ones are left out."""
        present = ((name, data.get(name)) for name in self.metadata)
        return {camel_case(name): value for name, value in present if value is not None}


@dataclass(frozen=True, eq=False)
class Catalog:
    """Every event type, by name. `roles` are all roles that an audience may name."""

    types: Mapping[str, EventType]
    roles: frozenset[str] = KNOWN_ROLES

    def get(self, name: str) -> EventType | None:
        """Return the type called `name`, retired ones included, or None."""
        return self.types.get(name)

    def __iter__(self) -> Iterator[EventType]:
        return iter(self.types.values())

    def __len__(self) -> int:
        return len(self.types)

    @cached_property
    def by_notification_type(self) -> Mapping[str, EventType]:
        """The types by what their notifications are called: `CERTIFICATE_ISSUED`."""
        return MappingProxyType({kind.notification_type: kind for kind in self})

    def categories(self) -> tuple[str, ...]:
        """Return the categories in use, sorted."""
        return tuple(sorted({kind.category for kind in self}))


def camel_case(name: str) -> str:
    """Return `badge_title` as `badgeTitle`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
