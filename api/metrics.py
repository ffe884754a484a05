"""`GET /metrics`: what Prometheus reads."""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.auth import bearer_of
from api.body import problems
from api.credentials import RequireScope
from api.measure import Measures
from shared import exposition
from shared.settings import settings

router = APIRouter(tags=["operators"])

_operator = RequireScope("ops:read")


async def _require_reader(request: Request) -> None:
    """Raise unless the caller may read: in production the scraper's token or a key with `ops:read` is needed.

    The token is known without the database: an outage of that is when the numbers are needed.
    """
    authorization = request.headers.get("authorization")
    token = settings().metrics_token
    if settings().development and token is None and authorization is None:
        return
    if token is not None and hmac.compare_digest(bearer_of(authorization).encode(), token.get_secret_value().encode()):
        return
    await _operator(request)


_EXPOSITION = {"schema": {"type": "string"}, "example": 'carillon_events_total{outcome="accepted"} 41.0\n'}


@router.get(
    "/metrics",
    responses={
        200: {"description": "The exposition", "content": {"text/plain": _EXPOSITION}},
        **problems(401, 403, 429, 503),
    },
    response_class=Response,
)
async def read(request: Request) -> Response:
    """The numbers of all processes of this host that share a folder, and of the queues as they are now."""
    await _require_reader(request)
    measures: Measures = request.app.state.measures
    told, gauges = await measures.counted(), await measures.gauges()
    body, content_type = exposition.render(told, gauges, request.headers.get("accept", ""))
    return Response(body, media_type=None, headers={"content-type": content_type})
