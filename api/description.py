"""The OpenAPI description: what FastAPI derives from the code, completed by what it cannot see.

Which credential a call takes, the stream (an ASGI endpoint of its own), the settings' bounds, the event types of the
catalog, the answers' examples, and which answer leads to which call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from api import credentials, deps, examples, json_schemas, stream_description
from api.body import PROBLEM_SCHEMA, problems
from api.inbox_filters import AFTER_FORM
from api.json_schemas import ANY_OBJECT
from shared.catalog import catalog
from shared.settings import settings

Document = dict[str, Any]

SUBSCRIBER, COOKIE, PRODUCER = "subscriberToken", "sessionCookie", "producerKey"
#: What else a call answers for its credential; a cookie that comes from another page, or with a form, is refused.
_REFUSALS = dict.fromkeys((SUBSCRIBER, COOKIE, PRODUCER), (401, 403, 429, 503))
_UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
#: The dependency of a call tells whose credential it takes.
_CREDENTIALS = {get_args(deps.CurrentSubscriber)[1].dependency: (SUBSCRIBER, COOKIE)} | {
    get_args(key)[1].dependency: (PRODUCER,)
    for key in (credentials.EventsKey, credentials.DirectoryKey, credentials.OperatorKey)
}
#: The parts of the API, in the order in which somebody who takes it up meets them.
_PARTS = {
    "producers": "Post events, see how far they are, cancel them, ask why somebody was told or not.",
    "webhooks": "Events of products that cannot be taught to post ours.",
    "directory": "Who can be notified, who follows which topic, and the end of access.",
    "session": "The session cookie of a browser.",
    "inbox": "One recipient's notifications: pages, counters, marks, GraphQL.",
    "stream": "One recipient's changes as they happen.",
    "operators": "Health, numbers, a test of the whole way.",
}
#: Schemas that FastAPI adds for its own form of an error, which nobody is ever answered.
_FASTAPIS = ("HTTPValidationError", "ValidationError")


def install_description(app: FastAPI) -> None:
    """Have `app.openapi()`, and with it /docs, tell all of this; made at the first call."""

    def openapi() -> Document:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def operation_id(route: APIRoute) -> str:
    """Return `inbox.mark_one`: the part and the function."""
    part = route.tags[0] if route.tags else "page"
    return f"{part}.{route.name}"


def describe(app: FastAPI) -> Document:
    """Return the description of `app`."""
    document: Document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    document["tags"] = [{"name": name, "description": words} for name, words in _PARTS.items()]
    for _, _, operation in _operations(document):
        _tidy(operation)
        _name(operation)
    _add_credentials(app, document)
    for (method, path), told in stream_description.OPERATIONS.items():
        document["paths"][path][method] |= told
    document["paths"].update(stream_description.paths())
    for (method, path), links in examples.LINKS.items():
        _success(document["paths"][path][method])["links"] = links
    _complete_schemas(document)
    _bound(document)
    return document


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _success(operation: Document) -> Document:
    told: Document = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
    return told


def _tidy(operation: Document) -> None:
    """Put our problem in the place of FastAPI's own 422, or nothing where no parameter of the call can be wrong."""
    content = operation["responses"].get("422", {}).get("content", {})
    if "application/json" not in content:
        return
    del operation["responses"]["422"]
    if any(each["in"] == "query" for each in operation.get("parameters", ())):
        operation["responses"] |= {str(status): told for status, told in problems(422).items()}


def _name(operation: Document) -> None:
    """Call it by its first sentence, not by its function, and put it into one part: its own, if it has one."""
    operation["summary"] = re.split(r"[.;]\s", operation["description"], maxsplit=1)[0].rstrip(".")
    operation["tags"] = operation["tags"][-1:]


def _add_credentials(app: FastAPI, document: Document) -> None:
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute) or not route.include_in_schema:
            continue
        schemes = [scheme for call in _calls(route.dependant) for scheme in _CREDENTIALS.get(call, ())]
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            operation["security"] = [{scheme: []} for scheme in schemes]
            _add_refusals(operation, schemes, method)


def _add_refusals(operation: Document, schemes: list[str], method: str) -> None:
    statuses = {status for scheme in schemes for status in _REFUSALS[scheme]}
    if COOKIE in schemes and method in _UNSAFE:
        statuses.add(415)
    told = {str(status): problem for status, problem in problems(*sorted(statuses)).items()}
    operation["responses"] = dict(sorted({**told, **operation["responses"]}.items()))


def _security() -> Document:
    return {
        SUBSCRIBER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A recipient's token."},
        COOKIE: {
            "type": "apiKey", "in": "cookie", "name": settings().session_cookie,
            "description": "A session of `POST /api/session`, or the host's own.",
        },
        PRODUCER: {"type": "http", "scheme": "bearer", "description": "A key of `carillon key create`."},
    }  # fmt: skip


def _calls(dependant: Dependant) -> Iterator[Any]:
    for each in dependant.dependencies:
        yield each.call
        yield from _calls(each)


def _complete_schemas(document: Document) -> None:
    schemas = document["components"]["schemas"]
    for name in _FASTAPIS:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    schemas |= {
        "Event": json_schemas.event(),
        "StandardWebhook": json_schemas.standard_webhook(),
        "Json": json_schemas.JSON,
    }
    for name, example in examples.ANSWERS.items():
        schemas[name]["examples"] = [example]
    document["components"]["securitySchemes"] = _security()


def _bound(document: Document) -> None:
    """Tell what the settings and the catalog allow."""
    most = {"maximum": settings().max_page_size}
    known: dict[str, Document] = {
        "first": most,
        "snapshot": most,
        "type": {"items": {"type": "string", "enum": json_schemas.types()}},
        "category": {"items": {"type": "string", "enum": [*catalog().categories()]}},
        "after": {"pattern": AFTER_FORM},
        "since": json_schemas.CURSOR,
        "upTo": json_schemas.CURSOR,
    }
    for path, _, operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            _not_null(parameter)
            if path.startswith("/api/notifications") and parameter["name"] in known:
                parameter["schema"] |= known[parameter["name"]]
            if parameter["name"] == "metadata":
                # It is JSON within the address.
                parameter["content"] = {"application/json": {"schema": parameter.pop("schema") and ANY_OBJECT}}
        for told in operation.get("requestBody", {}).get("content", {}).values():
            told["schema"] = json_schemas.decent(told["schema"])


def _not_null(parameter: Document) -> None:
    """Leave out the null that a parameter of an address cannot be."""
    alternatives = parameter["schema"].pop("anyOf", None)
    if alternatives is not None:
        parameter["schema"] |= next(each for each in alternatives if each != {"type": "null"})
