"""The directory's calls: tenants and recipients, one by one and in bulk. Scope `directory:write`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api import topics
from api.body import answer, json_body, problems, read_body, require_type
from api.bulk import JSON, rows_body, store_rows
from api.credentials import DirectoryKey, require_tenant
from api.directory_models import Imported, RecipientAnswer, RecipientBody, RecipientRow, TenantAnswer
from api.paths import PathName, TenantName, names_of
from shared import directory, homes, strict_json
from shared.directory import MAX_ATTRIBUTES_BYTES
from shared.errors import FieldError, Forbidden, InvalidInput, MalformedBody
from shared.logs import log
from shared.plans import arun_plan
from shared.statements import Row

router = APIRouter(prefix="/api", tags=["directory"])

#: Attributes, and the roles and the locale around them.
MAX_BODY_BYTES = 2 * MAX_ATTRIBUTES_BYTES + 32 * 1024


@router.put(
    "/tenants/{tenant}",
    status_code=201,
    response_model=TenantAnswer,
    responses={200: {"model": TenantAnswer, "description": "It was there"}, **problems(401, 403, 404, 422, 503)},
)
async def put_tenant(request: Request, key: DirectoryKey, tenant: TenantName) -> Response:
    """Make a tenant. Only a key for every tenant may."""
    (tenant,) = names_of(request, 1)
    if key.tenants is not None:
        raise Forbidden("Only a key for every tenant may make tenants.")
    made = await arun_plan(homes.make_tenant(tenant, key.actor))
    if made:
        log().info("tenant.created", prefix=key.prefix, tenant=tenant)
    return answer({"id": tenant}, 201 if made else 200)


async def _place(request: Request, key: DirectoryKey, tenant: PathName, id: PathName) -> tuple[str, str]:
    """Return the tenant, which the key may use, and the id that the path names."""
    tenant, id = names_of(request, 2)
    require_tenant(key, tenant)
    return tenant, id


Place = Annotated[tuple[str, str], Depends(_place)]


def _recipient_json(row: Row) -> dict[str, Any]:
    told = {name: row[name] for name in ("tenant", "id", "roles", "locale", "attributes")}
    return {**told, "createdAt": row["created_at"], "updatedAt": row["updated_at"]}


async def _told(request: Request) -> dict[str, Any]:
    """Return the body; the names in the path must not stand in it, lest one be overruled in silence."""
    require_type(request, (JSON,))
    told = strict_json.loads(await read_body(request, MAX_BODY_BYTES))
    if not isinstance(told, dict):
        raise MalformedBody("The body must be a JSON object.")
    wrong = tuple(FieldError(name, "stands in the path") for name in ("tenant", "id") if name in told)
    if wrong:
        raise InvalidInput(errors=wrong)
    return told


@router.put(
    "/recipients/{tenant}/{id:path}",
    response_model=RecipientAnswer,
    openapi_extra=json_body(RecipientBody),
    responses={
        201: {"model": RecipientAnswer, "description": "It is new"},
        **problems(400, 401, 403, 404, 413, 415, 422, 503),
    },
)
async def put_recipient(request: Request, place: Place) -> Response:
    """Register a recipient, or replace what is known of one: roles that are not named are taken away."""
    tenant, id = place
    one = directory.recipient_of({**await _told(request), "tenant": tenant, "id": id})
    row, is_new = await arun_plan(homes.put_recipient(one))
    return answer(_recipient_json(row), 201 if is_new else 200)


@router.get("/recipients/{tenant}/{id:path}", response_model=RecipientAnswer, responses=problems(401, 403, 404, 503))
async def get_recipient(place: Place) -> Response:
    """One recipient."""
    return answer(_recipient_json(await arun_plan(homes.get_recipient(*place))))


@router.delete("/recipients/{tenant}/{id:path}", status_code=204, responses=problems(401, 403, 404, 503))
async def delete_recipient(key: DirectoryKey, place: Place) -> Response:
    """Remove a person's data: notifications, attributes, roles, topics.

    The inbox's numbering goes on if the id returns; whoever holds a cursor gets `reset`.
    """
    await arun_plan(homes.delete_recipient(*place, key.actor))
    log().info("recipient.deleted", prefix=key.prefix, tenant=place[0])
    return Response(status_code=204)


@router.post(
    "/recipients/bulk",
    response_model=Imported,
    openapi_extra=rows_body(RecipientRow),
    responses=problems(400, 401, 403, 415, 503),
)
async def import_recipients(request: Request, key: DirectoryKey) -> Response:
    """Register any number of recipients, a row each. Wrong rows are left out and told; sending again is safe.

    Rows are stored a thousand at a time: after an error, those before it are there.
    """
    tally = await store_rows(request, key, homes.put_rows)
    counts = {"created": tally.created, "updated": tally.updated, "rejected": tally.rejected}
    return answer({**counts, "errors": tally.errors})


router.include_router(topics.router)
