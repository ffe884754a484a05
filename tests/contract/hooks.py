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

#: The tenant and the recipient that there are.
THERE = {"tenant": "acme"}
#: One of the recipients that there are.
WHO = "ada"
#: The event types to post, all of them where none is named.
TYPES = os.environ["CONTRACT_EVENT_TYPES"].split()
#: A page asked for with more parameters than this is asked for without most of them.
PLAIN = 4
#: Signing secrets of that tenant, by webhook.
GITHUB, STANDARD = os.environ["CONTRACT_GITHUB_SECRET"], os.environ["CONTRACT_STANDARD_SECRET"]

_printable = st.characters(codec="latin-1", exclude_categories=("Cc", "Cf", "Zs"))
_segment = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)

schemathesis.openapi.format("id", st.just(WHO) | st.text(_printable, min_size=1, max_size=50))
schemathesis.openapi.format("action-url", _segment.map("/{}".format))
schemathesis.openapi.format("day-or-time", st.dates().map(str))
schemathesis.openapi.format("uri-reference", _segment.map("/{}".format))
schemathesis.openapi.format("uri", _segment.map("https://example.org/{}".format))


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context: Any, value: Any) -> bytes:
    """Send a text as it is, anything else as one row."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Keep as many event types as there is time for (each brings some 500 cases), for whom there is."""
    for name in ("Event", "StandardWebhook"):
        schema = raw_schema["components"]["schemas"][name]
        schema["anyOf"] = [each for each in schema["anyOf"] if each["title"] in TYPES or not TYPES]
        for kind in schema["anyOf"]:
            # Another tenant may be named in the platform's events alone, which no schema says.
            kind["properties"]["data"]["properties"].get("audience", {}).get("properties", {}).pop("tenant", None)
            kind["properties"] |= {name: {"enum": [told]} for name, told in THERE.items() if name in kind["properties"]}


def _placed(told: Any) -> Any:
    """Name the tenant that there is, wherever a right one is named."""
    if not isinstance(told, dict) or not _FORMS["tenant"].fullmatch(str(told.get("tenant"))):
        return told
    return {**told, "tenant": THERE["tenant"]}


@schemathesis.hook
def map_query(_context: Any, query: Any) -> Any:
    """Ask of the tenant that there is."""
    return _placed(query)


@schemathesis.hook
def map_path_parameters(_context: Any, path_parameters: Any) -> Any:
    """Name the tenant that there is."""
    return _placed(path_parameters)


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Ask for pages that have something in them more often than chance would: most filters let nothing through."""
    asked = case.query or {}
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    if context.operation.label == "GET /api/notifications" and positive and len(asked) > PLAIN:
        case.query = {name: value for name, value in asked.items() if name in ("first", "archived")}
    return case


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
