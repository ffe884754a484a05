"""GraphQL: another's notifications, documents that ask for too much, and requests that are no documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.attacks.harness import JSON, Case, Target, ask
from tests.attacks.test_authorisation import mallory, victims

PATH = "/graphql"
COUNT = "{ unreadNotificationCount }"
FIELDS = "id type title message priority metadata actionUrl read readAt createdAt"
INVALID = (422, "invalid-input")
WRONG_KIND = (415, "unsupported-content-type")


def sent(body: Any, kind: str = JSON, **headers: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask("POST", PATH, content, authorization=mallory(), content_type=kind, **headers)


REQUESTS = [
    Case("a batch", sent([{"query": COUNT}] * 2), *INVALID),
    Case("no query", sent({"variables": {}}), *INVALID),
    Case("a query that is null", sent({"query": None}), *INVALID),
    Case("a stored query", sent({"id": "1", "query": COUNT}), *INVALID),
    Case("variables that are a text", sent({"query": COUNT, "variables": "{}"}), *INVALID),
    Case("variables of one name twice", sent(b'{"query":"{a}","variables":{"a":1,"a":2}}'), *INVALID),
    Case("variables nested beyond reading", sent(b'{"query":"{a}","variables":{"a":' + b"[" * 40 + b"]" * 40 + b"}}"),
         *INVALID),
    Case("a query with NUL", sent({"query": "{ unreadNotificationCount \0 }"}), *INVALID),
    Case("a body of 20 KiB", sent({"query": COUNT + " " * 20_000}), 413, "body-too-large"),
    Case("a form", sent(b"query=%7BunreadNotificationCount%7D", "application/x-www-form-urlencoded"), *WRONG_KIND),
    Case("a plain text", sent({"query": COUNT}, "text/plain"), *WRONG_KIND),
    Case("an upload", sent(b"--x--", "multipart/form-data; boundary=x"), *WRONG_KIND),
    Case("a query in the address", ask("GET", f"{PATH}?query={COUNT.replace(' ', '')}", authorization=mallory()), 405,
         "about:blank", has={"allow": "POST"}),
    Case("a page to type queries into", ask("GET", PATH, accept="text/html"), 405, "about:blank"),
    Case("nobody", ask("POST", PATH, json.dumps({"query": COUNT}).encode(), content_type=JSON), 401, "unauthenticated"),
]  # fmt: skip


def refused(message: str) -> dict[str, Any]:
    return {"data": None, "errors": [{"message": message}]}


def too_many(what: str) -> dict[str, Any]:
    return refused(f"The document has more than {what}.")


def missing(field: str) -> dict[str, Any]:
    extensions = {"type": "urn:carillon:problem:not-found", "title": "There is no such thing", "status": 404}
    where = {"locations": [{"line": 1, "column": 22}], "path": [field], "extensions": extensions}
    return {"data": None, "errors": [{"message": "There is no such notification.", **where}]}


BOMB = "".join(f"fragment f{n} on Notification {{ ...f{n + 1} ...f{n + 1} }} " for n in range(30))
CYCLE = "{ notifications { nodes { ...a } } } fragment a on Notification { ...b } fragment b on Notification { ...a }"
ALIASES = " ".join(f"a{n}: unreadNotificationCount" for n in range(16))
PAGES = " ".join(f"p{n}: notifications(first: 100) {{ nodes {{ {FIELDS} }} }}" for n in range(3))
MARK = "mutation($id: ID!) { markNotificationAsRead(id: $id) { title } }"
DELETE = "mutation($id: ID!) { deleteNotification(id: $id) }"

DOCUMENTS: list[tuple[str, str, Any]] = [
    ("another's notification, marked", MARK, missing("markNotificationAsRead")),
    ("another's notification, deleted", DELETE, missing("deleteNotification")),
    ("another's count", COUNT, {"data": {"unreadNotificationCount": 0}}),
    ("another's page", "{ notifications { nodes { title } totalCount } }",
     {"data": {"notifications": {"nodes": [], "totalCount": 0}}}),
    ("all of somebody's, where there is nothing", "mutation { markAllNotificationsAsRead }",
     {"data": {"markAllNotificationsAsRead": True}}),
    ("16 aliases", f"{{ {ALIASES} }}", too_many("15 aliases")),
    ("11 levels", "{" + "... on Query {" * 10 + "unreadNotificationCount" + "}" * 11, too_many("10 levels")),
    ("101 fields", "{ notifications { nodes { " + "id " * 99 + "} } }", too_many("100 selections")),
    ("1,001 tokens", "{ " + "a " * 1_000 + "}",
     "Syntax Error: Document contains more than 1000 tokens. Parsing aborted."),
    ("three whole pages", f"{{ {PAGES} }}", too_many("2,500 fields in its answer")),
    ("a page told 2^30 times", "{ notifications { nodes { ...f0 } } } " + BOMB + "fragment f30 on Notification { id }",
     too_many("2,500 fields in its answer")),
    ("fragments in a circle", CYCLE, "Cannot spread fragment 'a' within itself via 'b'."),
    ("a page of 2^31", "{ notifications(first: 2147483648) { totalCount } }",
     "Int cannot represent non 32-bit signed integer value: 2147483648"),
    ("somebody else's type", "{ recipients { id } }", "Cannot query field 'recipients' on type 'Query'."),
    ("a subscription", "subscription { a }", "The subscription operation is not supported by the schema."),
]  # fmt: skip


@pytest.mark.parametrize("case", REQUESTS, ids=str)
def test_requests(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize(("name", "query", "expected"), DOCUMENTS, ids=[name for name, _, _ in DOCUMENTS])
def test_documents(target: Target, name: str, query: str, expected: Any) -> None:
    variables = {"id": victims(target).rpartition("/")[2]} if "$id" in query else {}
    headers = {"authorization": mallory()(target)}
    with target.unharmed():
        answer = target.client.post(PATH, json={"query": query, "variables": variables}, headers=headers)
    told = answer.json()
    assert answer.status_code == 200
    if isinstance(expected, str):
        assert (told["data"], told["errors"][0]["message"]) == (None, expected)
    else:
        assert told == expected
