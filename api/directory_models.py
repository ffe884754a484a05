"""What the directory's calls take and answer, for the OpenAPI description."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from api.json_schemas import LOCALE, NAME, ROLES, TENANT
from shared.directory import DEFAULT_LOCALE


class TenantAnswer(BaseModel):
    """A tenant."""

    id: str


class RecipientBody(BaseModel):
    """What is told of a recipient; what is left out is empty (the locale: en)."""

    model_config = ConfigDict(extra="forbid")

    roles: Annotated[list[str], WithJsonSchema(ROLES)] = []
    locale: Annotated[str, WithJsonSchema(LOCALE)] = DEFAULT_LOCALE
    attributes: dict[str, Any] = {}


class RecipientRow(RecipientBody):
    """One row of a bulk import."""

    tenant: Annotated[str, WithJsonSchema(TENANT)]
    id: Annotated[str, WithJsonSchema(NAME)]


class RecipientAnswer(BaseModel):
    """A recipient; roles are sorted."""

    tenant: str
    id: str
    roles: list[str]
    locale: str
    attributes: dict[str, Any]
    createdAt: datetime
    updatedAt: datetime


class MembershipRow(BaseModel):
    """One row of a bulk change of topics; `member` false ends the membership."""

    tenant: str
    topic: str
    recipient: str
    member: bool = True


class Members(BaseModel):
    """A page of a topic's members, by id; the last one is the next page's `after`."""

    members: list[str]
    hasNextPage: bool


class Rejected(BaseModel):
    """Why a row was left out. `line` counts from 1: the line of NDJSON, or the place in the array."""

    line: int
    field: str
    message: str


class Imported(BaseModel):
    """What became of the rows; `errors` tells of the first thousand rejected ones."""

    created: int
    updated: int
    rejected: int
    errors: list[Rejected]


class TopicsChanged(BaseModel):
    """What became of the rows; `unchanged` ones had it so already."""

    changed: int
    unchanged: int
    rejected: int
    errors: list[Rejected]
