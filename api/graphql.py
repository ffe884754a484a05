"""`POST /graphql`: the contract's queries and mutations for clients that speak GraphQL.

Only POST, only `application/json`, one document a request: a form of another site cannot send that, and no batch
multiplies the limits. There is no page to type queries into: the usual one loads its scripts from elsewhere.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.body import answer, json_body, problems, read_body, require_type
from api.deps import CurrentSubscriber, FramePublisher
from api.problems import invalid
from shared.errors import InvalidInput
from shared.settings import settings
from shared.strict_json import faults, parse

#: A document within its limits has some kilobytes.
MAX_BODY_BYTES = 16 * 1024

router = APIRouter(tags=["inbox"])


class GraphQLRequest(BaseModel):
    """One document, which operation of it to run, and its variables."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: str = Field(min_length=1)
    operationName: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = Field(None, description="Accepted and ignored.")


class GraphQLAnswer(BaseModel):
    """The fields asked for, and what went wrong with some of them."""

    data: dict[str, Any] | None = None
    errors: list[dict[str, Any]] | None = None


@lru_cache(maxsize=1)
def _schema_module() -> Any:
    from api import graphql_schema

    graphql_schema.schema(settings().development)
    return graphql_schema


async def _read(request: Request) -> GraphQLRequest:
    """Return the request's document, read strictly; raises what names the fault and its field."""
    require_type(request, ("application/json",))
    told = parse(await read_body(request, MAX_BODY_BYTES))
    if isinstance(told, dict) and isinstance(told.get("query"), str):
        # Some editors end lines so; elsewhere a carriage return is refused.
        told["query"] = told["query"].replace("\r\n", "\n")
    refused = faults(told)
    if refused:
        raise InvalidInput(errors=refused)
    try:
        return GraphQLRequest.model_validate(told)
    except ValidationError as error:
        raise invalid(error.errors()) from None


@router.post(
    "/graphql",
    response_model=GraphQLAnswer,
    response_model_exclude_unset=True,
    openapi_extra=json_body(GraphQLRequest),
    responses=problems(400, 401, 413, 415, 422, 503),
)
async def graphql(who: CurrentSubscriber, publisher: FramePublisher, request: Request) -> Response:
    """Queries `notifications` and `unreadNotificationCount`, and three mutations: see docs/protocol.md."""
    asked = await _read(request)
    if not _schema_module.cache_info().currsize:
        # At the first call: 0.4 s that no stream should wait for.
        await asyncio.to_thread(_schema_module)
    return answer(await _schema_module().execute(asked.query, asked.variables, asked.operationName, who, publisher))
