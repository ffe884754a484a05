"""GraphQL over the same functions as REST: the same answers, the same rights, bounded documents, no words of ours."""

from __future__ import annotations

import json
from typing import Any

import httpx
import psycopg
import pytest
import structlog

from api import inbox_calls
from shared.tokens import make_token
from tests.directory import Row
from tests.inboxes import TENANT, WHO, Publish
from tests.producers import counted_statements, serving

FIELDS = "id type title message priority metadata actionUrl read readAt createdAt"
PAGE = f"""query Page($first: Int, $after: String) {{
  notifications(first: $first, after: $after) {{
    nodes {{ {FIELDS} }} pageInfo {{ hasNextPage endCursor }} totalCount unreadCount
  }}
  unreadNotificationCount
}}"""


async def ask(client: httpx.AsyncClient, query: str, **variables: Any) -> dict[str, Any]:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def data(client: httpx.AsyncClient, query: str, **variables: Any) -> dict[str, Any]:
    told = await ask(client, query, **variables)
    assert "errors" not in told, told
    found: dict[str, Any] = told["data"]
    return found


async def refusal(client: httpx.AsyncClient, query: str, **variables: Any) -> str:
    told = await ask(client, query, **variables)
    assert told["data"] is None
    messages: list[str] = [error["message"] for error in told["errors"]]
    assert len(messages) == 1
    return messages[0]


async def test_a_page_is_what_rest_answers(ada: httpx.AsyncClient, publish: Publish) -> None:
    for type in ("ticket.assigned", "grade.posted", "payment.due"):
        publish(type)
    rest = (await ada.get("/api/notifications", params={"first": 2})).json()
    told = await data(ada, PAGE, first=2)
    page = told["notifications"]
    assert page["nodes"] == [{name: node[name] for name in FIELDS.split()} for node in rest["nodes"]]
    assert [node["type"] for node in page["nodes"]] == ["PAYMENT_DUE", "GRADE_POSTED"]
    assert page["nodes"][1]["metadata"] == {"courseId": "c1", "courseTitle": "Algebra", "grade": "A"}
    assert page["pageInfo"] == {"hasNextPage": True, "endCursor": rest["pageInfo"]["endCursor"]}
    assert (page["totalCount"], page["unreadCount"], told["unreadNotificationCount"]) == (3, 3, 3)
    rest_of_it = (await data(ada, PAGE, first=2, after=page["pageInfo"]["endCursor"]))["notifications"]
    assert [node["type"] for node in rest_of_it["nodes"]] == ["TICKET_ASSIGNED"]
    assert rest_of_it["pageInfo"]["hasNextPage"] is False


async def test_the_mutations_change_what_rest_shows(ada: httpx.AsyncClient, publish: Publish) -> None:
    for _ in range(3):
        publish("grade.posted")
    newest, middle, _ = [node["id"] for node in (await ada.get("/api/notifications")).json()["nodes"]]
    marked = await data(ada, "mutation($id: ID!) { markNotificationAsRead(id: $id) { id read readAt } }", id=newest)
    shown = (await ada.get(f"/api/notifications/{newest}")).json()
    assert marked["markNotificationAsRead"] == {"id": newest, "read": True, "readAt": shown["readAt"]}
    assert await data(ada, "mutation($id: ID!) { deleteNotification(id: $id) }", id=middle) == {
        "deleteNotification": True
    }
    assert (await data(ada, "{ unreadNotificationCount }"))["unreadNotificationCount"] == 1
    assert await data(ada, "mutation { markAllNotificationsAsRead }") == {"markAllNotificationsAsRead": True}
    counts = (await ada.get("/api/notifications/unread-count")).json()
    assert counts == {"unreadCount": 0, "unseenCount": 0, "cursor": "1-6"}


async def test_what_is_not_there_is_a_problem_with_its_path(ada: httpx.AsyncClient, publish: Publish) -> None:
    publish("grade.posted")
    one = (await ada.get("/api/notifications")).json()["nodes"][0]["id"]
    eve = {"authorization": f"Bearer {make_token(TENANT, 'eve')}"}
    query = "mutation($id: ID!) { markNotificationAsRead(id: $id) { id } }"
    answers = [
        (await ada.post("/graphql", json={"query": query, "variables": {"id": id}}, headers=headers)).json()
        for id, headers in ((one, eve), ("no-uuid", {}), (7, {}))
    ]
    problem = {
        "type": "urn:carillon:problem:not-found",
        "title": "There is no such thing",
        "status": 404,
    }
    error = {
        "message": "There is no such notification.",
        "locations": [{"line": 1, "column": 22}],
        "path": ["markNotificationAsRead"],
        "extensions": problem,
    }
    assert answers == [{"data": None, "errors": [error]}] * 3
    assert (await data(ada, "{ unreadNotificationCount }"))["unreadNotificationCount"] == 1


async def test_wrong_arguments_name_their_field(ada: httpx.AsyncClient) -> None:
    for arguments, field in (("first: 0", "first"), ("first: 101", "first"), ('after: "x"', "after")):
        told = await ask(ada, f"{{ notifications({arguments}) {{ totalCount }} }}")
        assert [each["field"] for each in told["errors"][0]["extensions"]["errors"]] == [field]


@pytest.mark.parametrize(
    ("query", "statements"),
    [
        (PAGE, 2),
        ("{ notifications { totalCount } }", 1),
        ("{ unreadNotificationCount }", 1),
        ("mutation { markAllNotificationsAsRead }", 3),
    ],
)
async def test_each_call_runs_the_same_statements_however_much_there_is(
    ada: httpx.AsyncClient, publish: Publish, query: str, statements: int
) -> None:
    for count in (1, 4):
        for _ in range(count):
            publish("grade.posted")
        with counted_statements() as seen:
            await data(ada, query)
        assert len(seen) == statements


TOO_DEEP = "Syntax Error: Document is nested too deeply. Parsing aborted."
ALL_OF_IT = f"notifications(first: 100) {{ nodes {{ {FIELDS} }} }}"
FIFTEEN = " ".join(f"a{n}: unreadNotificationCount" for n in range(15))
FRAGMENTS = "".join(f"fragment f{n} on Notification {{ ...f{n + 1} ...f{n + 1} }} " for n in range(40))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ notifications { nodes { " + "id " * 1_000 + "} } }",
         "Syntax Error: Document contains more than 1000 tokens. Parsing aborted."),
        ("{ notifications { nodes { " + "id " * 99 + "} } }", "The document has more than 100 selections."),
        ("{ unreadNotificationCount " + " ".join(f"a{n}: unreadNotificationCount" for n in range(16)) + "}",
         "The document has more than 15 aliases."),
        (f"query A {{ a: unreadNotificationCount }} query B {{ {FIFTEEN} }}", "The document has more than 15 aliases."),
        ("{" + "... on Query {" * 10 + "unreadNotificationCount" + "}" * 10 + "}",
         "The document has more than 10 levels."),
        ("{" + "a {" * 60 + "b" + "}" * 60 + "}", "The document has more than 10 levels."),
        (f"{{ a: {ALL_OF_IT} b: {ALL_OF_IT} c: {ALL_OF_IT} }}",
         "The document has more than 2,500 fields in its answer."),
        ("{ notifications(first: 100) { ...p ...q } } fragment p on NotificationConnection {"
         + " ".join(f"a{n}: nodes {{ id title }}" for n in range(10)) + "} fragment q on NotificationConnection {"
         + " ".join(f"n{n}: nodes {{ id }}" for n in range(5)) + "}",
         "The document has more than 2,500 fields in its answer."),
        ("{ notifications(first: 1) { nodes { ...f0 } } } " + FRAGMENTS + "fragment f40 on Notification { id }",
         "The document has more than 2,500 fields in its answer."),
    ],
)  # fmt: skip
async def test_a_document_that_asks_for_too_much_is_refused_before_anything_runs(
    ada: httpx.AsyncClient, query: str, message: str
) -> None:
    with counted_statements() as seen:
        assert await refusal(ada, query) == message
    assert seen == []


async def test_the_number_of_rows_counts_where_a_variable_has_it(ada: httpx.AsyncClient) -> None:
    pages = " ".join(f"p{n}: notifications(first: $n) {{ nodes {{ id title }} }}" for n in range(10))
    query = f"query($n: Int = 100) {{ {pages} }}"
    assert await refusal(ada, query) == "The document has more than 2,500 fields in its answer."
    assert len(await data(ada, query, n=5)) == 10


async def test_what_is_wrong_with_a_document_is_told_without_running_it(ada: httpx.AsyncClient) -> None:
    assert await refusal(ada, "{") == "Syntax Error: Expected Name, found <EOF>."
    assert "Cannot query field 'secrets'" in await refusal(ada, "{ secrets }")
    assert "Unknown fragment 'f'" in await refusal(ada, "{ ...f }")
    assert "Cannot spread fragment 'f' within itself" in await refusal(ada, "{ ...f } fragment f on Query { ...f }")
    assert await refusal(ada, "{" + "a {" * 300 + "}" * 300 + "}") == TOO_DEEP
    assert "Variable '$first' has invalid value: Int cannot represent" in await refusal(ada, PAGE, first="many")
    answer = await ada.post("/graphql", json={"query": PAGE, "operationName": "Other"})
    assert answer.json()["errors"] == [{"message": "The document has no such operation."}]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 422),
        (b"[]", "application/json", 422),
        (b'[{"query":"{ unreadNotificationCount }"}]', "application/json", 422),
        (b'{"query":""}', "application/json", 422),
        (b'{"query":"{ a }","more":1}', "application/json", 422),
        (b'{"query":"{ a }","variables":[]}', "application/json", 422),
        (b'{"query":"{ a }","variables":{"a":1,"a":2}}', "application/json", 422),
        (b'{"query":"{ a }","variables":"{}"}', "application/json", 422),
        (b'{"query":"\\u0000"}', "application/json", 422),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"query":"' + b" " * 16_384 + b'"}', "application/json", 413),
        (b"query=%7B+unreadNotificationCount+%7D", "application/x-www-form-urlencoded", 415),
        (b'{"query":"{ unreadNotificationCount }"}', "text/plain", 415),
        (b"{ unreadNotificationCount }", "application/graphql", 415),
        (b'--x\r\ncontent-disposition: form-data; name="operations"\r\n\r\n{}\r\n--x--', "multipart/form-data", 415),
    ],
)  # fmt: skip
async def test_a_request_of_another_form_is_a_problem(
    ada: httpx.AsyncClient, content: bytes, kind: str, status: int
) -> None:
    answer = await ada.post("/graphql", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_it_takes_posts_with_a_token_alone(ada: httpx.AsyncClient) -> None:
    body = {"query": "{ unreadNotificationCount }"}
    got = await ada.get("/graphql", params=body, headers={"accept": "text/html"})
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    answer = await ada.post("/graphql", json=body, headers={"authorization": ""})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_windows_line_ends_are_taken(ada: httpx.AsyncClient) -> None:
    assert await data(ada, "{\r\n  unreadNotificationCount\r\n}") == {"unreadNotificationCount": 0}


async def test_a_failure_that_nobody_foresaw_is_told_and_logged_without_its_words(
    ada: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise ValueError("the-secret-words")

    monkeypatch.setattr(inbox_calls, "counts", broken)
    with structlog.testing.capture_logs() as logged:
        told = await ask(ada, "{ unreadNotificationCount }")
    assert [error["message"] for error in told["errors"]] == ["Something went wrong on our side; it was logged."]
    assert [(each["event"], each["reason"]) for each in logged] == [("graphql.unexpected", "ValueError")]
    assert "the-secret-words" not in json.dumps([told, logged])


async def test_a_type_that_the_catalog_lost_does_not_take_the_page_with_it(
    ada: httpx.AsyncClient, publish: Publish, db: psycopg.Connection[Row]
) -> None:
    publish("grade.posted")
    publish("payment.due")
    db.execute("UPDATE notifications SET type = 'once.was' WHERE ordinal = 1")
    page = (await data(ada, PAGE))["notifications"]
    assert ([node["type"] for node in page["nodes"]], page["totalCount"]) == (["PAYMENT_DUE"], 2)


INTROSPECTION = '{ __schema { types { name } } __type(name: "NotificationType") { enumValues { name } } }'


async def test_in_development_the_schema_can_be_asked_for(ada: httpx.AsyncClient) -> None:
    told = await data(ada, INTROSPECTION)
    assert {"NotificationConnection", "Notification"} <= {each["name"] for each in told["__schema"]["types"]}
    assert {"name": "CERTIFICATE_ISSUED"} in told["__type"]["enumValues"]
    assert "Did you mean 'notifications'?" in await refusal(ada, "{ notification { totalCount } }")


@pytest.fixture
def in_production(settings_env: dict[str, str], production: dict[str, str]) -> None:
    settings_env.update(production)


async def test_in_production_nothing_of_the_schema_is_told(in_production: None, configured: dict[str, str]) -> None:
    async with serving() as client:
        client.headers["authorization"] = f"Bearer {make_token(TENANT, WHO)}"
        told = await ask(client, INTROSPECTION)
        assert told["data"] is None
        assert all("introspection has been disabled" in error["message"] for error in told["errors"])
        assert "Did you mean" not in await refusal(client, "{ notification { totalCount } }")
        assert await data(client, "{ unreadNotificationCount }") == {"unreadNotificationCount": 0}
