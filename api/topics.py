"""The topics' calls: who is a member, one by one and in bulk. Scope `directory:write`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.body import answer, problems
from api.bulk import rows_body, store_rows
from api.credentials import DirectoryKey, require_tenant
from api.directory_models import Members, MembershipRow, TopicsChanged
from api.paths import Name, PathName, names_of
from shared import homes
from shared.directory import unknown_recipient
from shared.plans import arun_plan
from shared.topics import Membership

router = APIRouter(prefix="/topics")

#: Members of one page.
MAX_MEMBERS = 1_000


async def _topic(request: Request, key: DirectoryKey, tenant: PathName, topic: PathName) -> tuple[str, str]:
    """Return the tenant, which the key may use, and the topic that the path names."""
    tenant, topic, _ = names_of(request, 3)
    require_tenant(key, tenant)
    return tenant, topic


async def _membership(
    request: Request, key: DirectoryKey, tenant: PathName, topic: PathName, recipient: PathName
) -> Membership:
    """Return the membership that the path names, in a tenant that the key may use."""
    tenant, topic, _, recipient = names_of(request, 4)
    require_tenant(key, tenant)
    return Membership(tenant, topic, recipient, member=request.method == "PUT")


Topic = Annotated[tuple[str, str], Depends(_topic)]
OneMembership = Annotated[Membership, Depends(_membership)]


@router.get("/{tenant}/{topic:path}/members", response_model=Members, responses=problems(401, 403, 404, 422, 503))
async def get_members(
    place: Topic,
    after: Name | None = None,
    first: Annotated[int, Query(ge=1, le=MAX_MEMBERS)] = MAX_MEMBERS,
) -> Response:
    """A topic's members; one that nobody joined has none."""
    found = await arun_plan(homes.members_of(*place, after or "", first + 1))
    return answer({"members": found[:first], "hasNextPage": len(found) > first})


async def _change(change: Membership) -> Response:
    _, unknown = await arun_plan(homes.change_members([change]))
    if unknown:
        raise unknown_recipient()
    return Response(status_code=204)


_MEMBER = "/{tenant}/{topic:path}/members/{recipient:path}"


@router.put(_MEMBER, status_code=204, responses=problems(401, 403, 404, 503))
async def join(membership: OneMembership) -> Response:
    """Make a recipient a member of a topic; again: the same."""
    return await _change(membership)


@router.delete(_MEMBER, status_code=204, responses=problems(401, 403, 404, 503))
async def leave(membership: OneMembership) -> Response:
    """End a membership; where there was none: the same."""
    return await _change(membership)


@router.post(
    "/bulk",
    response_model=TopicsChanged,
    openapi_extra=rows_body(MembershipRow),
    responses=problems(400, 401, 403, 415, 503),
)
async def change_topics(request: Request, key: DirectoryKey) -> Response:
    """Let any number of recipients join topics, or leave them (`"member": false`), a row each.

    Wrong rows are left out and told; rows are stored a thousand at a time, and sending again is safe.
    """
    tally = await store_rows(request, key, homes.change_rows)
    counts = {"changed": tally.created, "unchanged": tally.updated, "rejected": tally.rejected}
    return answer({**counts, "errors": tally.errors})
