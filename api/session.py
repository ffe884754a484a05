"""`/api/session`: a token in, a cookie out, and the way out again."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.responses import Response

from api.auth import Subscriber, bearer_of
from api.body import answer, problems, read_body
from api.cross_site import cookie_of, require_json, require_own_page
from api.deps import CurrentRates, CurrentSignIn
from api.watch import Watch
from shared import db, sessions, strict_json
from shared.errors import FieldError, InvalidInput, Unauthenticated
from shared.settings import settings
from shared.statements import arun

router = APIRouter(prefix="/api/session", tags=["session"])

#: There is nothing to say in the body; room for `{}` and some blanks.
MAX_BODY_BYTES = 1024


class SessionAnswer(BaseModel):
    """Whom the cookie speaks for, and until when."""

    tenant: str
    recipient: str
    expiresAt: datetime


async def _watch(request: Request) -> Watch:
    watch: Watch = request.app.state.watch
    return watch


Watching = Annotated[Watch, Depends(_watch)]


def _cookie(value: str, seconds: int) -> str:
    """Return the cookie as it is set; no time left takes it away."""
    name = settings().session_cookie
    secure = "; Secure" if name.startswith(("__Host-", "__Secure-")) else ""
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


async def _require_no_words(request: Request) -> None:
    """Raise for a body that says anything: nothing that it says would be followed."""
    require_json(request.method, request.headers)
    body = await read_body(request, MAX_BODY_BYTES)
    if body.strip() and strict_json.loads(body) != {}:
        raise InvalidInput(errors=(FieldError("", "must be empty, or an empty object"),))


@router.post("", status_code=201, response_model=SessionAnswer, responses=problems(400, 401, 413, 415, 422, 429, 503))
async def begin(request: Request, sign_in: CurrentSignIn, rates: CurrentRates) -> Response:
    """Exchange a token for a session cookie that ends when the token does. The token stays what it is."""
    who = await sign_in.by_token(bearer_of(request.headers.get("authorization")))
    await _require_no_words(request)
    await rates.require_sign_in(f"{who.tenant}/{who.recipient}")
    left = math.floor(who.expires_at - time.time())
    if left <= 0:
        raise Unauthenticated("The token has expired.")
    value = await sign_in.sessions.create(who)
    told = answer(_told(who), 201)
    told.headers["set-cookie"] = _cookie(value, left)
    return told


def _told(who: Subscriber) -> dict[str, object]:
    return {"tenant": who.tenant, "recipient": who.recipient, "expiresAt": datetime.fromtimestamp(who.expires_at, UTC)}


@router.delete("", status_code=204, responses=problems(401, 403, 415, 503))
async def end(request: Request, watch: Watching, sign_in: CurrentSignIn) -> Response:
    """End the session of the cookie, and its streams. A session that has ended already is ended; its cookie is taken
    away all the same."""
    cookie = cookie_of(Headers(scope=request.scope), settings().session_cookie)
    if (authorization := request.headers.get("authorization")) is not None:
        await sign_in.by_token(bearer_of(authorization))
    elif cookie is not None:
        require_own_page(request.method, request.headers)
        require_json(request.method, request.headers)
    if cookie is None:
        raise Unauthenticated("There is no session: no cookie was sent.")
    if len(cookie) <= sessions.MAX_ID:
        await _end(sessions.name_of(cookie), watch)
    return Response(status_code=204, headers={"set-cookie": _cookie("", 0)})


async def _end(name: str, watch: Watch) -> None:
    async with db.async_transaction(credentials=[name]) as connection:
        whose = await arun(connection, sessions.end(name))
    if whose is not None:
        await watch.logged_out(*whose, name)
