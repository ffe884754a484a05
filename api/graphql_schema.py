"""The GraphQL schema, over the same functions as REST. Imported at the first call: it costs 0.4 s and 8 MB.

The rows are the dictionaries that REST answers with; a field is an entry of the same name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from operator import getitem
from typing import Any, NewType, cast

import strawberry
from graphql import GraphQLError
from strawberry.extensions import DisableIntrospection, MaskErrors
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import ExecutionContext
from strawberry.types.scalar import ScalarDefinition

from api import inbox_calls
from api.auth import Subscriber
from api.graphql_limits import Limits
from api.inbox_filters import before_of, limit_of
from api.publish import Publisher
from shared.catalog import catalog
from shared.errors import CarillonError
from shared.frames import PRIORITIES
from shared.inbox import Wish
from shared.inbox_filter import Filter
from shared.logs import log, place_of
from shared.settings import settings

UNEXPECTED = "Something went wrong on our side; it was logged."

#: Written by the answer's own encoder, as everywhere else.
Moment = NewType("Moment", datetime)
Json = NewType("Json", dict)  # type: ignore[type-arg]
_SCALARS: dict[object, ScalarDefinition] = {
    Moment: strawberry.scalar(name="DateTime", description="RFC 3339, in UTC.", serialize=lambda value: value),
    Json: strawberry.scalar(name="JSON", description="A JSON object.", serialize=lambda value: value),
}


def _types() -> type[Enum]:
    """Return every type of the catalog whose notifications are shown; a retired one is deprecated."""
    named = {
        kind.notification_type: strawberry.enum_value(
            kind.notification_type,
            description=kind.description,
            deprecation_reason="No longer sent." if kind.retired else None,
        )
        for kind in catalog()
        if kind.shown
    }
    return strawberry.enum(cast(type[Enum], Enum("NotificationType", named)), description="What happened.")


NotificationType = _types()
NotificationPriority = strawberry.enum(
    cast(type[Enum], Enum("NotificationPriority", {name: name for name in PRIORITIES})), description="How urgent it is."
)


@dataclass
class Context:
    """Who asks. A request holds one database connection at a time, however many fields it asks for at once."""

    who: Subscriber
    publisher: Publisher
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


Info = strawberry.Info[Context, None]


@strawberry.type(description="One event for one recipient.")
class Notification:
    id: strawberry.ID
    type: Any = strawberry.field(graphql_type=NotificationType)
    title: str
    message: str
    priority: Any = strawberry.field(graphql_type=NotificationPriority)
    metadata: Json
    actionUrl: str | None
    read: bool
    readAt: Moment | None
    createdAt: Moment


@strawberry.type(description="Where a page ends.")
class PageInfo:
    hasNextPage: bool
    endCursor: str | None = strawberry.field(description="The next page's `after`.")


@strawberry.type(description="A page, newest first.")
class NotificationConnection:
    nodes: list[Notification]
    pageInfo: PageInfo
    totalCount: int
    unreadCount: int


def _known(node: Mapping[str, Any]) -> bool:
    """Tell whether the enumeration has a row's type; one that a catalog lost would take the whole page with it."""
    known = node["type"] in NotificationType.__members__
    if not known:
        log().warning("graphql.type_unknown", id=node["id"], type=node["type"])
    return known


@strawberry.type
class Query:
    @strawberry.field(description="What the inbox shows, the newest first.")
    async def notifications(
        self, info: Info, first: int | None = strawberry.UNSET, after: str | None = strawberry.UNSET
    ) -> NotificationConnection:
        before, limit = before_of(after or None), limit_of(None if first is strawberry.UNSET else first)
        async with info.context.turn:
            page = await inbox_calls.page(info.context.who, Filter(), before, limit)
        return cast(NotificationConnection, {**page, "nodes": [node for node in page["nodes"] if _known(node)]})

    @strawberry.field(description="The badge.")
    async def unreadNotificationCount(self, info: Info) -> int:
        async with info.context.turn:
            counts = await inbox_calls.counts(info.context.who)
        return cast(int, counts["unreadCount"])


@strawberry.type
class Mutation:
    @strawberry.mutation(description="Mark one notification as read; one that is read already stays as it is.")
    async def markNotificationAsRead(self, info: Info, id: strawberry.ID) -> Notification:
        context = info.context
        marked = await inbox_calls.mark_one(context.who, context.publisher, str(id), Wish(read=True))
        return cast(Notification, marked)

    @strawberry.mutation(description="Mark all that the inbox shows as read.")
    async def markAllNotificationsAsRead(self, info: Info) -> bool:
        await inbox_calls.change_many(info.context.who, info.context.publisher, "read", None)
        return True

    @strawberry.mutation(description="Delete one notification for good.")
    async def deleteNotification(self, info: Info, id: strawberry.ID) -> bool:
        await inbox_calls.delete_one(info.context.who, info.context.publisher, str(id))
        return True


def _cause(error: GraphQLError) -> BaseException | None:
    """Return what a resolver raised; None for an error that graphql-core found in the document itself."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def _unforeseen(error: GraphQLError) -> bool:
    cause = _cause(error)
    return cause is not None and not isinstance(cause, CarillonError)


def told(error: GraphQLError) -> dict[str, Any]:
    """Return an error as the answer has it: ours with its status and fields, as REST tells it."""
    cause = _cause(error)
    formatted: dict[str, Any] = {**error.formatted}
    if isinstance(cause, CarillonError):
        problem = cause.as_json()
        formatted["message"] = problem.pop("detail")
        formatted["extensions"] = problem
    return formatted


class _Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Log what nobody foresaw by type and place alone: its words may quote data."""
        for error in filter(_unforeseen, errors):
            cause = _cause(error)
            assert cause is not None
            log().error("graphql.unexpected", reason=type(cause).__name__, where=place_of(cause))


@lru_cache(maxsize=2)
def schema(development: bool) -> strawberry.Schema:
    """Return the schema with its limits; outside development nothing of it can be found out by asking."""
    hidden = not development
    return _Schema(
        Query,
        Mutation,
        config=StrawberryConfig(
            auto_camel_case=False, default_resolver=getitem, disable_field_suggestions=hidden, scalar_map=_SCALARS
        ),
        extensions=[
            lambda: MaskErrors(should_mask_error=_unforeseen, error_message=UNEXPECTED),
            Limits,
            *([DisableIntrospection] if hidden else []),
        ],
    )


async def execute(
    query: str, variables: dict[str, Any] | None, operation: str | None, who: Subscriber, publisher: Publisher
) -> dict[str, Any]:
    """Return the answer to one document; whatever is wrong with it is told there, nothing is raised for it."""
    try:
        result = await schema(settings().development).execute(
            query, variables, Context(who, publisher), operation_name=operation
        )
    except (CannotGetOperationTypeError, InvalidOperationTypeError):
        return {"data": None, "errors": [{"message": "The document has no such operation."}]}
    answered: dict[str, Any] = {"data": result.data}
    if result.errors:
        answered["errors"] = [told(error) for error in result.errors]
    return answered
