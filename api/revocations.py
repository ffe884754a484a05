"""`POST /api/revocations`: a producer's server, or an operator, ends what a recipient is signed in with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, WithJsonSchema
from starlette.responses import Response

from api.body import answer, json_body, problems, read_body, require_type
from api.credentials import DirectoryKey, require_tenant
from api.json_schemas import NAME
from api.problems import invalid
from api.session import Watching
from shared import audit, db, revocations, strict_json
from shared.audit import Entry
from shared.cloudevent import MAX_ID, is_name
from shared.databases import SHARED
from shared.logs import log
from shared.revocations import EVERYONE
from shared.statements import arun

router = APIRouter(prefix="/api/revocations", tags=["directory"])

#: Two names of 200 characters, each written with escapes at worst.
MAX_BODY_BYTES = 4 * 1024
JSON = "application/json"


def _is_name(value: str) -> str:
    if not is_name(value):
        raise ValueError(f"must be a text of 1 to {MAX_ID} printable characters")
    return value


Name = Annotated[str, AfterValidator(_is_name), WithJsonSchema(NAME)]


class RevocationBody(BaseModel):
    """Whose access ends. Without a recipient: everyone's of the tenant."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tenant: Name
    recipient: Name | None = None


class RevocationAnswer(BaseModel):
    """What was issued up to `revokedAt` is void."""

    tenant: str
    recipient: str | None
    revokedAt: datetime


@router.post(
    "",
    status_code=201,
    response_model=RevocationAnswer,
    openapi_extra=json_body(RevocationBody),
    responses=problems(400, 401, 403, 413, 415, 422, 503),
)
async def revoke(request: Request, key: DirectoryKey, watch: Watching) -> Response:
    """End a recipient's access: tokens issued up to now, sessions, tickets, and within a second the open streams."""
    require_type(request, (JSON,))
    document = strict_json.loads(await read_body(request, MAX_BODY_BYTES))
    try:
        body = RevocationBody.model_validate(document)
    except ValidationError as error:
        raise invalid(error.errors()) from None
    require_tenant(key, body.tenant)
    async with db.async_transaction(body.tenant, database=SHARED) as connection:
        made = await arun(connection, revocations.revoke(body.tenant, body.recipient or EVERYONE))
        await arun(connection, audit.record(Entry(key.actor, "access.revoked", body.tenant, body.recipient)))
    log().info("access.revoked", prefix=key.prefix, tenant=body.tenant, recipient=body.recipient)
    await watch.revoked(made)
    at = datetime.fromtimestamp(made.at, UTC)
    return answer({"tenant": body.tenant, "recipient": body.recipient, "revokedAt": at}, 201)
