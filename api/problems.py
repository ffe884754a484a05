"""Every error of the API is one kind of answer: `application/problem+json` (RFC 9457), written here alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response

from shared.errors import BodyTooLarge, CarillonError, FieldError, InvalidInput, MalformedBody
from shared.frames import dumps
from shared.logs import log, place_of
from shared.metrics import REFUSED

#: Faults that this API has words of its own for, as pydantic calls them.
_OWN_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a field here",
    "model_type": "must be an object",
    "dict_type": "must be an object",
}
PROBLEM_JSON = "application/problem+json"
#: Where events are posted: what is refused there is counted by its reason.
PRODUCERS = ("/api/events", "/api/webhooks")
#: Status codes that Starlette itself answers, in the words of this API.
_TITLES = {404: "There is no such thing", 405: "The method is not allowed", 413: BodyTooLarge.__doc__ or ""}


def problem_response(error: CarillonError) -> Response:
    """Return the answer for `error`, with `Retry-After` and `WWW-Authenticate` where they belong."""
    headers = {"cache-control": "no-store"}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(dumps(error.as_json()), error.status, headers, PROBLEM_JSON)


async def _carillon(request: Request, error: Exception) -> Response:
    assert isinstance(error, CarillonError)
    denied = getattr(request.app.state, "denied", None)
    told = error if denied is None else denied.judged(request.scope, error)
    if request.method == "POST" and request.scope["path"].startswith(PRODUCERS):
        REFUSED.add(1, told.reason())
    return problem_response(told)


def invalid(faults: Sequence[Any], skipped: int = 0) -> InvalidInput:
    """Return pydantic's faults as ours; `skipped` parts at the front of a path are not the sender's words."""
    return InvalidInput(errors=tuple(FieldError(_field(fault["loc"], skipped), _message(fault)) for fault in faults))


def _message(fault: Any) -> str:
    """Return pydantic's words for a fault in those of everything else here, without what they say of our classes."""
    said = str(fault["msg"]).removeprefix("Value error, ")
    return _OWN_WORDS.get(fault["type"]) or re.sub("^Input should be ", "must be ", said)


def _field(location: tuple[Any, ...], skipped: int) -> str:
    if skipped and location[0] == "query":
        # A parameter is one field, however often it stands there.
        return str(location[1])
    return ".".join(str(part) for part in location[skipped:])


def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return problem_response(MalformedBody("The body is not valid JSON."))
    # FastAPI puts the place ("query", "body") before the field.
    return problem_response(invalid(faults, skipped=1))


_NAMED = re.compile(r"\{[^}]*\}")


def _methods_of(request: Request) -> list[str]:
    """Return what the address takes: Starlette tells of the first call that it finds there alone."""
    found = [each for each in iter_route_contexts(request.app.routes) if each.path_regex.match(request.scope["path"])]
    # `/read-all` is also an `/{id}`, and not meant as one: what names more of itself is nearer.
    nearest = max((str(each.path_format) for each in found), key=lambda path: len(_NAMED.sub("", path)), default="")
    return sorted({method for each in found if each.path_format == nearest for method in each.methods or ()} - {"HEAD"})


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = _TITLES.get(error.status_code, error.detail).rstrip(".")
    problem = {"type": "about:blank", "title": title, "status": error.status_code, "detail": error.detail}
    headers = {"cache-control": "no-store", **{name.lower(): value for name, value in (error.headers or {}).items()}}
    if error.status_code == 405:
        headers["allow"] = ", ".join(_methods_of(request)) or headers.get("allow", "")
    return Response(dumps(problem), error.status_code, headers, PROBLEM_JSON)


def unexpected(error: Exception, path: str, request_id: str) -> Response:
    """Return the answer to a failure that nobody foresaw, logged by type and place alone: its words may quote data."""
    log().error("api.unexpected", path=path, reason=type(error).__name__, where=place_of(error))
    return problem_response(
        CarillonError(f"Something went wrong on our side; it was logged with the request id {request_id}.")
    )


def install_problems(app: FastAPI) -> None:
    """Make every error that endpoints raise a problem; what nobody foresaw is the outermost middleware's."""
    app.add_exception_handler(CarillonError, _carillon)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
