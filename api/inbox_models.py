"""What the inbox's calls take and answer, for the OpenAPI description and for strict reading."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator


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
    """A page, newest first. `totalCount` counts what the filters let through."""

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


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MarkOne(_Body):
    """At least one mark; several are one change. Archived implies read, read implies seen."""

    read: StrictBool | None = None
    seen: Literal[True] | None = None
    archived: StrictBool | None = None

    @model_validator(mode="after")
    def _something_that_can_be(self) -> MarkOne:
        if self.read is None and self.seen is None and self.archived is None:
            raise ValueError("name at least one of read, seen, archived")
        if self.archived and self.read is False:
            raise ValueError("an archived notification is read: leave out read, or archive it not")
        return self


class MarkAll(_Body):
    """Exactly one mark, for all that was created up to `upTo` (without it: for all)."""

    read: Literal[True] | None = None
    seen: Literal[True] | None = None
    upTo: str | None = Field(None, max_length=64)

    @model_validator(mode="after")
    def _exactly_one(self) -> MarkAll:
        if (self.read is None) == (self.seen is None):
            raise ValueError("name exactly one of read, seen")
        return self


class ReadAll(_Body):
    """The optional bound of `read-all`."""

    upTo: str | None = Field(None, max_length=64)
