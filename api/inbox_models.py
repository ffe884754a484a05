"""What the inbox's calls take and answer, for the OpenAPI description and for strict reading."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, WithJsonSchema, model_validator

from api.json_schemas import CURSOR, TRUE


class Counts(BaseModel):
    """The counters as of `cursor`."""

    unreadCount: int
    unseenCount: int
    cursor: str


class CategoryCounts(BaseModel):
    """The part of the counters that one category has."""

    unreadCount: int
    unseenCount: int


class UnreadCounts(Counts):
    """The counters; `byCategory`, where asked for, has every category with something unread or unseen."""

    byCategory: dict[str, CategoryCounts] | None = None


class Notification(BaseModel):
    """One event for one recipient."""

    id: str
    createdSeq: int
    seq: int
    tenant: str
    type: str
    category: str
    title: str
    message: str
    priority: Literal["LOW", "NORMAL", "HIGH", "URGENT"]
    metadata: dict[str, Any]
    actionUrl: str | None
    read: bool
    readAt: datetime | None
    seenAt: datetime | None
    archivedAt: datetime | None
    createdAt: datetime
    expiresAt: datetime | None


class NotificationAnswer(Notification, Counts):
    """A notification with the inbox's counters."""


class PageInfo(BaseModel):
    """Where the page ends: `endCursor` is the next page's `after`."""

    hasNextPage: bool
    endCursor: str | None


class Page(Counts):
    """A page, newest first. `totalCount` counts what the filters let through; `inbox` names whose inbox it is."""

    inbox: str
    nodes: list[Notification]
    pageInfo: PageInfo
    totalCount: int


class ChangeStep(BaseModel):
    """All rows whose latest change is `id`, in their present state; it follows `prev`."""

    id: str
    prev: int
    type: Literal["changed"]
    notifications: list[Notification]
    deletedIds: list[str]


class Changes(Counts):
    """What a stream would replay after a cursor. `reset`: it can no longer be told, fetch the page again."""

    inbox: str
    changes: list[ChangeStep]
    hasMore: bool
    reset: bool


class Changed(Counts):
    """How many notifications a bulk change touched; none is no change."""

    changed: int


class Deleted(Counts):
    """The deleted notification's id."""

    id: str
    deleted: Literal[True] = True


def _told(value: Any) -> Any:
    if value is None:
        raise ValueError("must not be null: leave it out")
    return value


def _drop_defaults(schema: dict[str, Any]) -> None:
    for each in schema["properties"].values():
        each.pop("default", None)


#: A field that may be left out, and is never null.
_Flag = Annotated[StrictBool | None, BeforeValidator(_told), WithJsonSchema({"type": "boolean"})]
_Set = Annotated[Literal[True] | None, BeforeValidator(_told), WithJsonSchema(TRUE)]
_UpTo = Annotated[str | None, Field(max_length=64), BeforeValidator(_told), WithJsonSchema(CURSOR)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_drop_defaults)


class MarkOne(_Body):
    """At least one mark; several are one change. Archived implies read, read implies seen."""

    read: _Flag = None
    seen: _Set = None
    archived: _Flag = None

    @model_validator(mode="after")
    def _something_that_can_be(self) -> MarkOne:
        if self.read is None and self.seen is None and self.archived is None:
            raise ValueError("name at least one of read, seen, archived")
        if self.archived and self.read is False:
            raise ValueError("an archived notification is read: leave out read, or archive it not")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        """Add what the validator demands."""
        schema = handler(core_schema)
        unread = {"properties": {"archived": TRUE, "read": {"const": False}}, "required": ["archived", "read"]}
        return {**schema, "minProperties": 1, "not": unread}


class MarkAll(_Body):
    """Exactly one mark, for all that was created up to `upTo` (without it: for all)."""

    read: _Set = None
    seen: _Set = None
    upTo: _UpTo = None

    @model_validator(mode="after")
    def _exactly_one(self) -> MarkAll:
        if (self.read is None) == (self.seen is None):
            raise ValueError("name exactly one of read, seen")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        """Add what the validator demands."""
        return {**handler(core_schema), "oneOf": [{"required": ["read"]}, {"required": ["seen"]}]}


class ReadAll(_Body):
    """The optional bound of `read-all`."""

    upTo: _UpTo = None
