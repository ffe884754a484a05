"""What both clients do with a request and with its answer."""

from __future__ import annotations

from typing import Any

import httpx

from carillon_client.calls import Request
from carillon_client.errors import Refused

#: For connecting, and for each wait within an answer.
TIMEOUT_S = 30.0
#: Mistakes of the caller, which no patience mends.
_LASTING = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


def headers_of(key: str) -> dict[str, str]:
    """Return the headers of every request."""
    return {"authorization": f"Bearer {key}"}


def arguments(request: Request) -> dict[str, Any]:
    """Return httpx's arguments for a request."""
    headers = None if request.content is None else {"content-type": request.kind}
    return {
        "method": request.method,
        "url": request.path,
        "content": request.content,
        "headers": headers,
        "params": request.query or None,
    }


def is_passing(error: httpx.TransportError) -> bool:
    """Tell whether the same request may get through later."""
    return not isinstance(error, _LASTING)


def answered(answer: httpx.Response) -> Any:
    """Return a successful answer's JSON, None where it has no body; raises `Refused` for any other answer."""
    if answer.is_success:
        return answer.json() if answer.content else None
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    raise Refused(answer.status_code, problem if isinstance(problem, dict) else {})
