"""What schemathesis cannot know: a tenant that exists, signatures, and texts of the formats that are ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import time
from typing import Any

import schemathesis
from hypothesis import strategies as st

TENANT = "acme"
#: Signing secrets of that tenant, by webhook.
GITHUB, STANDARD = os.environ["CONTRACT_GITHUB_SECRET"], os.environ["CONTRACT_STANDARD_SECRET"]

_printable = st.characters(codec="latin-1", exclude_categories=("Cc", "Cf", "Zs"))
_segment = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)

schemathesis.openapi.format("id", st.text(_printable, min_size=1, max_size=50))
schemathesis.openapi.format("action-url", _segment.map("/{}".format))
schemathesis.openapi.format("day-or-time", st.dates().map(str))
schemathesis.openapi.format("uri-reference", _segment.map("/{}".format))
schemathesis.openapi.format("uri", _segment.map("https://example.org/{}".format))


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context: Any, value: Any) -> bytes:
    """Send a text as it is, anything else as one row."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value).encode()


def _there(tenant: Any) -> Any:
    """Return the tenant that there is in the place of one that there might be."""
    return TENANT if isinstance(tenant, str) and _FORMS["tenant"].fullmatch(tenant) else tenant


def _placed(told: Any) -> Any:
    return {**told, "tenant": _there(told["tenant"])} if isinstance(told, dict) and "tenant" in told else told


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Post events of the tenant that there is."""
    if context.operation.path != "/api/events":
        return body
    return [_placed(event) for event in body] if isinstance(body, list) else _placed(body)


@schemathesis.hook
def map_query(_context: Any, query: Any) -> Any:
    """Ask of the tenant that there is."""
    return _placed(query)


@schemathesis.hook
def map_path_parameters(_context: Any, path_parameters: Any) -> Any:
    """Name the tenant that there is."""
    return _placed(path_parameters)


def _sign_github(request: Any) -> Any:
    if _FORMS["x-hub-signature-256"].fullmatch(request.headers.get("X-Hub-Signature-256", "")):
        digest = hmac.new(GITHUB.encode(), _body(request), hashlib.sha256).hexdigest()
        request.headers["X-Hub-Signature-256"] = f"sha256={digest}"
    return request


def _sign_standard(request: Any) -> Any:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    if all(_FORMS[name].fullmatch(request.headers.get(name, "")) for name in names):
        moment = str(int(time.time()))
        content = f"{request.headers['webhook-id']}.{moment}.".encode() + _body(request)
        digest = hmac.digest(base64.b64decode(STANDARD.removeprefix("whsec_")), content, hashlib.sha256)
        request.headers["webhook-timestamp"] = moment
        request.headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return request


def _body(request: Any) -> bytes:
    body: bytes | str = request.body or b""
    return body.encode() if isinstance(body, str) else body


_FORMS = {
    "tenant": re.compile("[A-Za-z0-9][A-Za-z0-9._:-]{0,99}"),
    "x-hub-signature-256": re.compile("sha256=[0-9a-f]{64}"),
    "webhook-id": re.compile("[!-~]{1,200}"),
    "webhook-timestamp": re.compile("[0-9]{1,12}"),
    "webhook-signature": re.compile("v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)*"),
}
_SIGNERS = {"/api/webhooks/github": _sign_github, "/api/webhooks/standard": _sign_standard}


@schemathesis.hook
def before_call(_context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Sign a delivery whose signature has the right form, so that it is read."""
    if case.operation.path in _SIGNERS:
        kwargs["auth"] = _SIGNERS[case.operation.path]
