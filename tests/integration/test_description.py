"""The OpenAPI description: it has every call of the contract, each with its answers, problems and examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest

from api.app import create_app
from api.description import describe

#: Producers, browsers and operators, as docs/protocol.md tells them.
CALLS = """
    POST   /api/events
    GET    /api/events/{id}
    DELETE /api/events/{id}
    GET    /api/events/{id}/recipients/{recipient}
    POST   /api/webhooks/github
    POST   /api/webhooks/standard
    PUT    /api/tenants/{tenant}
    PUT    /api/recipients/{tenant}/{id}
    GET    /api/recipients/{tenant}/{id}
    DELETE /api/recipients/{tenant}/{id}
    POST   /api/recipients/bulk
    GET    /api/topics/{tenant}/{topic}/members
    PUT    /api/topics/{tenant}/{topic}/members/{recipient}
    DELETE /api/topics/{tenant}/{topic}/members/{recipient}
    POST   /api/topics/bulk
    GET    /api/notifications
    PATCH  /api/notifications
    DELETE /api/notifications
    POST   /api/notifications/read-all
    GET    /api/notifications/unread-count
    GET    /api/notifications/changes
    GET    /api/notifications/{id}
    PATCH  /api/notifications/{id}
    DELETE /api/notifications/{id}
    GET    /api/notifications/stream
    GET    /api/notifications/subscribe
    POST   /api/notifications/stream/tickets
    POST   /graphql
    POST   /api/session
    DELETE /api/session
    POST   /api/revocations
    GET    /api/stream/connections
    POST   /api/test/notifications
    GET    /healthz
    GET    /readyz
"""
#: The parameters of the page, as the contract names them, and those that narrow it further.
FILTERS = {"first", "after", "unread", "type", "category", "priority", "archived", "metadata", "createdFrom",
           "createdBefore"}  # fmt: skip
BODY_FAULTS = {"400", "415"}

Operation = dict[str, Any]


@pytest.fixture
def document(configured: dict[str, str]) -> dict[str, Any]:
    return describe(create_app())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, Operation]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_call_of_the_contract_is_described(document: dict[str, Any]) -> None:
    wanted = {" ".join(line.split()) for line in CALLS.strip().splitlines()}
    assert wanted <= {call for call, _ in operations(document)}
    page = document["paths"]["/api/notifications"]["get"]
    assert {each["name"] for each in page["parameters"]} == FILTERS
    assert page["parameters"][0]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "title": "First"}


def test_every_call_states_its_problems_with_an_example(document: dict[str, Any]) -> None:
    problem = jsonschema_rs.Draft202012Validator(document["components"]["schemas"]["Problem"])
    for call, operation in operations(document):
        answers = operation["responses"]
        assert any(status[0] == "2" for status in answers), call
        assert "401" in answers or not operation.get("security"), call
        assert {"401", "503"} <= answers.keys() or call in ("GET /healthz", "GET /readyz"), call
        assert operation.get("requestBody") is None or answers.keys() >= BODY_FAULTS, call
        for status, answer in answers.items():
            if status[0] == "4":
                ((kind, told),) = answer["content"].items()
                assert kind == "application/problem+json", call
                assert told["schema"] == {"$ref": "#/components/schemas/Problem"}, call
                assert problem.is_valid(told["example"]), call
                assert told["example"]["status"] == int(status), call


def test_every_answer_and_every_body_has_a_valid_example(document: dict[str, Any]) -> None:
    for call, operation in operations(document):
        bodies = [answer.get("content", {}) for status, answer in operation["responses"].items() if status[0] == "2"]
        for content in [*bodies, operation.get("requestBody", {}).get("content", {})]:
            for kind, told in content.items():
                schema = {**told["schema"], "components": document["components"]}
                example = told.get("example", _example_of(document, told["schema"]))
                assert example is not None, (call, kind)
                assert kind != "application/json" or jsonschema_rs.is_valid(schema, example), (call, kind)


def _example_of(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    named = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return (named.get("examples") or [None])[0]


def test_each_call_stands_in_one_part_under_a_name_that_says_what_it_does(document: dict[str, Any]) -> None:
    parts = [part["name"] for part in document["tags"]]
    assert parts == ["producers", "webhooks", "directory", "session", "inbox", "stream", "operators"]
    names = {call: (operation["tags"], operation["summary"]) for call, operation in operations(document)}
    assert all(len(tags) == 1 and tags[0] in parts for tags, _ in names.values())
    assert all(2 <= len(summary.split()) <= 20 for _, summary in names.values()), names
    assert next(tags for call, (tags, _) in names.items() if "connections" in str(call)) == ["operators"]


def test_links_lead_to_calls_that_there_are_with_parameters_that_they_have(document: dict[str, Any]) -> None:
    known = {
        operation["operationId"]: {each["name"] for each in operation.get("parameters", ())}
        for _, operation in operations(document)
    }
    links = [
        link
        for _, operation in operations(document)
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert len(links) == 16
    for link in links:
        assert link["parameters"].keys() <= known[link["operationId"]], link


def test_an_event_of_every_type_of_the_catalog_fits_the_description(document: dict[str, Any]) -> None:
    from shared.catalog import catalog

    schemas = document["components"]["schemas"]
    validator = jsonschema_rs.Draft202012Validator({**schemas["Event"], "components": document["components"]})
    for kind in catalog():
        envelope = {"specversion": "1.0", "id": "e", "source": "/s", "tenant": "acme", "type": kind.name}
        assert validator.is_valid({**envelope, "data": kind.example}), kind.name
        assert not validator.is_valid({**envelope, "data": {**kind.example, "more": 1}}), kind.name
    assert len(schemas["Event"]["anyOf"]) == len(catalog())


async def test_what_docs_shows_is_this_description(api: httpx.AsyncClient, document: dict[str, Any]) -> None:
    page, start = await api.get("/docs"), await api.get("/docs/start.js")
    assert '<script src="/docs/start.js">' in page.text
    assert 'url: "/openapi.json"' in start.text
    assert (await api.get("/openapi.json")).json() == document


async def test_the_wrong_method_tells_all_the_right_ones(api: httpx.AsyncClient, document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        allowed = sorted(method.upper() for method in methods)
        answer = await api.request("TRACE", path.format(id="x", tenant="x", topic="x", recipient="x"))
        assert (answer.status_code, answer.headers["allow"]) == (405, ", ".join(allowed)), path
