"""Reaching for what is another recipient's, another tenant's, or beyond a key's scopes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.attacks.harness import COUNT, JSON, PAGE, Case, Target, ask
from tests.writer import TENANT

NO = (401, "unauthenticated")
FORBIDDEN = (403, "forbidden")
MISSING = (404, "not-found")
OTHER = "south"
EVENTS = "/api/events"
STRUCTURED = "application/cloudevents+json"
READ = b'{"read":true}'


def victims(target: Target) -> str:
    """Return the address of the victim's notification."""
    headers = {"authorization": target.bearer()}
    nodes = target.client.get(PAGE, headers=headers).json()["nodes"]
    return f"{PAGE}/{nodes[-1]['id']}"


def mallory(**claims: Any) -> Any:
    return lambda target: target.bearer(**{"sub": "mallory", **claims})


def namesake(target: Target) -> str:
    """Return the token of somebody of the victim's name in another tenant."""
    return target.bearer(tenant=OTHER)


WHOS = {
    "another recipient": mallory(),
    "a namesake in another tenant": namesake,
    "a super admin of another tenant": mallory(tenant="platform", roles=["super_admin"]),
    "a super admin of the same tenant": mallory(roles=["super_admin", "university_admin"]),
    "a name that is SQL": mallory(sub="' OR recipient LIKE '%"),
    "a name with a wildcard": mallory(sub="r%"),
    "a tenant that is an array": mallory(tenant=f"{{{TENANT},x}}"),
    "a tenant that is every one": mallory(tenant="*"),
}
RECIPIENTS = [
    case
    for who, token in WHOS.items()
    for case in (
        Case(f"{who} reads", ask("GET", victims, authorization=token), *MISSING),
        Case(f"{who} marks", ask("PATCH", victims, READ, authorization=token, content_type=JSON), *MISSING),
        Case(f"{who} deletes", ask("DELETE", victims, authorization=token), *MISSING),
        Case(f"{who} marks all", ask("PATCH", PAGE, READ, authorization=token, content_type=JSON), 200),
    )
]


def key(*scopes: str) -> Any:
    return lambda target: f"Bearer {target.key(*scopes)}"


def posted(tenant: str) -> bytes:
    data = {"student_id": "ann", "achievement_id": "a", "title": "t"}
    return json.dumps({"specversion": "1.0", "id": "stolen", "source": "/attacks", "type": "achievement.awarded",
                       "tenant": tenant, "data": data}).encode()  # fmt: skip


EVENTS_KEY, DIRECTORY_KEY, BOTH = key("events:write"), key("directory:write"), key("events:write", "directory:write")
ONE_EVENT = f"{EVENTS}/e1?source=/s&tenant={OTHER}"
PERSON, MEMBER = f"/api/recipients/{OTHER}/ann", f"/api/topics/{OTHER}/t/members/ann"


def events_of(tenant: str, authorization: Any = EVENTS_KEY) -> Any:
    return ask("POST", EVENTS, posted(tenant), authorization=authorization, content_type=STRUCTURED)


TENANTS = [
    *(Case(f"an event for {name}", events_of(tenant), *FORBIDDEN)
      for name, tenant in (("another tenant", OTHER), ("the platform", "platform"), ("a tenant in capitals", "NORTH"),
                           ("a tenant with a blank", f"{TENANT} "), ("every tenant", "*"), ("a path", f"{TENANT}/x"))),
    Case("another tenant's event", ask("GET", ONE_EVENT, authorization=EVENTS_KEY), *FORBIDDEN),
    Case("a cancel of another tenant's event", ask("DELETE", ONE_EVENT, authorization=EVENTS_KEY), *FORBIDDEN),
    Case("why somebody of another tenant got an event",
         ask("GET", f"{EVENTS}/e1/recipients/ann?source=/s&tenant={OTHER}", authorization=EVENTS_KEY), *FORBIDDEN),
    Case("why another tenant's recipient got an event",
         ask("GET", f"{EVENTS}/e1/recipients/ann?source=/s&tenant={TENANT}&recipientTenant={OTHER}",
             authorization=EVENTS_KEY), *FORBIDDEN),
    Case("another tenant's person", ask("GET", PERSON, authorization=DIRECTORY_KEY), *FORBIDDEN),
    Case("a person for another tenant",
         ask("PUT", PERSON, b"{}", authorization=DIRECTORY_KEY, content_type=JSON), *FORBIDDEN),
    Case("the end of another tenant's person", ask("DELETE", PERSON, authorization=DIRECTORY_KEY), *FORBIDDEN),
    Case("a member of another tenant's topic", ask("PUT", MEMBER, authorization=DIRECTORY_KEY), *FORBIDDEN),
    Case("the members of another tenant's topic",
         ask("GET", f"/api/topics/{OTHER}/t/members", authorization=DIRECTORY_KEY), *FORBIDDEN),
    Case("people for another tenant in bulk",
         ask("POST", "/api/recipients/bulk", b'[{"tenant":"south","id":"ann"}]', authorization=DIRECTORY_KEY,
             content_type=JSON), 200),
    Case("members for another tenant in bulk",
         ask("POST", "/api/topics/bulk", b'[{"tenant":"south","topic":"t","recipient":"ann"}]',
             authorization=DIRECTORY_KEY, content_type=JSON), 200),
    Case("a tenant of one's own making", ask("PUT", "/api/tenants/mine", authorization=DIRECTORY_KEY), *FORBIDDEN),
    Case("the end of another tenant's sessions",
         ask("POST", "/api/revocations", b'{"tenant":"south"}', authorization=DIRECTORY_KEY, content_type=JSON),
         *FORBIDDEN),
]  # fmt: skip

SCOPES = [
    Case("an event with a directory key", events_of(TENANT, DIRECTORY_KEY), *FORBIDDEN),
    Case("a person with an events key",
         ask("PUT", f"/api/recipients/{TENANT}/ann", b"{}", authorization=EVENTS_KEY, content_type=JSON), *FORBIDDEN),
    Case("the connections without the operator's scope",
         ask("GET", "/api/stream/connections", authorization=BOTH), *FORBIDDEN),
    Case("an event with a recipient's token", events_of(TENANT, lambda target: target.bearer()), *NO),
    Case("an inbox with a producer's key", ask("GET", COUNT, authorization=BOTH), *NO),
    Case("an event with a key cut short",
         events_of(TENANT, lambda target: f"Bearer {target.key('events:write')[:-1]}"), *NO),
    Case("an event with nobody's key", events_of(TENANT, ""), *NO),
]  # fmt: skip


@pytest.mark.parametrize("case", RECIPIENTS, ids=str)
def test_across_recipients(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize("case", TENANTS, ids=str)
def test_across_tenants(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize("case", SCOPES, ids=str)
def test_beyond_the_scopes(target: Target, case: Case) -> None:
    target.judge(case)


@pytest.mark.parametrize("who", WHOS)
def test_whoever_asks_sees_an_empty_inbox_and_not_the_victims(target: Target, who: str) -> None:
    headers = {"authorization": str(WHOS[who](target))}
    for path in (PAGE, f"{PAGE}?archived=true", f"{PAGE}/changes?since=1-0", f"{COUNT}?by=category"):
        answer = target.client.get(path, headers=headers).json()
        assert (answer["cursor"], answer["unreadCount"]) == ("1-0", 0)
        assert answer.get("nodes", []) == answer.get("changes", []) == []
