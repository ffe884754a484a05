"""GitHub's deliveries as events: the real examples, the table written by hand, and whatever JSON there may be."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import EventType, Target, catalog, targets
from shared.github import GithubEvent, event_of, logins_of, respelled
from shared.templates import render
from tests.github_examples import Row, Told, every_example, examples, people, table

Members = defaultdict[tuple[str, str], list[str]]


def kind_of(event: GithubEvent) -> EventType:
    found = catalog().get(event.type)
    assert found is not None
    assert found.errors(event.data) == ()
    return found


def told_by(tenant: str, event: GithubEvent, members: Members) -> frozenset[Told]:
    """Do what the endpoint and the fan-out do, with a topic's members in a dictionary."""
    if event.thread_topic:
        members[tenant, event.thread_topic] += event.participants
    kind, reached = kind_of(event), dict[str, Target]()
    for target in targets(kind, tenant, event.data):
        names = [target.name] if target.kind == "recipient" else members[tenant, target.name]
        for name in names:
            if not (target.audience.exclude_actor and name == event.actor):
                reached.setdefault(name, target)
    return frozenset(_told(name, kind, target, event, tenant) for name, target in reached.items())


def _told(name: str, kind: EventType, target: Target, event: GithubEvent, tenant: str) -> Told:
    texts = render(kind, target.audience, event.data, tenant=tenant)
    return Told(name, texts.title, texts.message, texts.action_url)


def known_event(row: Row, place: int) -> GithubEvent:
    return respelled(event_of(row.event, f"row-{place}", row.payload), {name.lower(): name for name in people()})


def test_the_table_tells_whom_each_delivery_tells_what() -> None:
    members: Members = defaultdict(list)
    for place, row in enumerate(table()):
        event = known_event(row, place)
        assert (event.type, told_by(row.tenant, event, members)) == (row.type, row.told), row.why


def test_the_table_has_every_mapped_kind_and_25_deliveries_at_least() -> None:
    rows = table()
    assert len(rows) >= 25
    assert {row.type for row in rows} == {kind.name for kind in catalog() if kind.domain == "github"}
    assert {row.type for row in rows if row.told} == {k.name for k in catalog() if k.domain == "github" and k.shown}


def test_every_example_is_one_event_that_fits_the_catalog() -> None:
    events = [event_of(name, delivery, payload) for name, delivery, payload in every_example()]
    for event in events:
        kind_of(event)
    assert Counter(event.type for event in events) == {
        "github.delivery": 301,
        "github.commented": 15,
        "github.state_changed": 6,
        "github.assigned": 5,
        "github.review_requested": 1,
        "github.reviewed": 1,
    }


def test_the_examples_tell_two_people_eleven_things() -> None:
    """As they are, one after the other: everyone but the actor who takes part by then."""
    members: Members = defaultdict(list)
    told: Counter[tuple[str, str]] = Counter()
    for name, delivery, payload in every_example():
        event = event_of(name, delivery, payload)
        told.update((one.to, event.type) for one in told_by("octo", event, members))
    assert told == {
        ("dan2wik", "github.state_changed"): 1,
        ("dan2wik", "github.commented"): 1,
        ("octocat", "github.state_changed"): 4,
        ("octocat", "github.review_requested"): 1,
        ("octocat", "github.reviewed"): 1,
        ("octocat", "github.commented"): 3,
    }


def test_an_event_carries_its_thread_its_actor_and_who_takes_part() -> None:
    event = event_of("pull_request", "d-1", examples()["pull_request"][21])
    assert event == GithubEvent(
        type="github.review_requested",
        subject="Codertocat/Hello-World#2",
        data={
            "actor_id": "Codertocat",
            "repository": "Codertocat/Hello-World",
            "thread": "Codertocat/Hello-World#2",
            "thread_name": "Codertocat/Hello-World#2",
            "thread_kind": "pull request",
            "thread_title": "Update the README with new information.",
            "number": 2,
            "reviewer_id": "octocat",
            "url": "https://github.com/Codertocat/Hello-World/pull/2",
        },
        actor="Codertocat",
        thread_topic="github:Codertocat/Hello-World#2",
        participants=("Codertocat", "octocat"),
    )
    assert logins_of(event) == {"Codertocat", "octocat"}


def comment(body: str, actor: str = "hubot", **issue: Any) -> GithubEvent:
    thread = {"number": 7, "title": "Broken", "html_url": "https://github.com/o/r/issues/7", "user": {"login": "Ada"}}
    payload = {
        "action": "created",
        "repository": {"full_name": "o/r"},
        "sender": {"login": actor},
        "issue": {**thread, **issue},
        "comment": {"body": body, "html_url": "https://github.com/o/r/issues/7#issuecomment-1"},
    }
    return event_of("issue_comment", "d", payload)


def test_a_comment_on_a_pull_request_says_so() -> None:
    assert comment("x", pull_request={"url": "u"}).data["thread_kind"] == "pull request"


def test_a_login_is_spelled_as_the_thread_and_then_the_directory_spell_it() -> None:
    event = comment("@ADA @OCTOcat @stranger")
    assert event.data["mentioned_ids"] == ["Ada", "OCTOcat", "stranger"]
    known = respelled(event, {"ada": "ada", "octocat": "octocat", "hubot": "HuBot"})
    assert known.data["mentioned_ids"] == ["ada", "octocat", "stranger"]
    assert (known.actor, known.data["actor_id"]) == ("HuBot", "HuBot")
    assert known.participants == ("ada", "octocat", "stranger", "HuBot")
    assert known.data["repository"] == "o/r"


def test_a_hundred_are_named_at_most_the_mentioned_first() -> None:
    crowd = [f"person{number}" for number in range(150)]
    event = comment(" ".join(f"@{login}" for login in crowd))
    assert event.data["mentioned_ids"] == crowd[:100]
    assert event.data["participant_ids"] == []
    some = comment("@a @b", assignees=[{"login": login} for login in crowd])
    assert len(some.data["mentioned_ids"]) + len(some.data["participant_ids"]) == 100
    assert len(some.participants) == 154


def test_long_words_are_cut_and_control_characters_removed() -> None:
    event = comment("word " * 200 + "\x00\x1b[31m", title="T\x07itle\n" + "x" * 600)
    assert event.data["excerpt"] == ("word " * 60)[:294].rstrip() + "…"
    assert len(event.data["thread_title"]) == 500
    assert event.data["thread_title"].startswith("T itle x")


def test_a_link_that_is_no_allowed_one_is_left_out() -> None:
    payload = dict(examples()["issues"][1])
    payload["issue"] = {**payload["issue"], "html_url": "javascript:alert(1)"}
    assert "url" not in event_of("issues", "d", payload).data


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"action": "created"},
        {"action": ["created"], "sender": "me", "repository": 7, "issue": [], "comment": None},
        {"action": "created", "sender": {"login": "a"}, "repository": {"full_name": "o/r"}, "issue": {"number": True}},
        {"action": "created", "sender": {"login": "a\n"}, "repository": {"full_name": "o/r"}, "issue": {"number": 1}},
        {"action": "created", "sender": {"login": "a"}, "repository": {"full_name": "o" * 201}, "issue": {"number": 1}},
        {"action": "created", "sender": {"login": "a"}, "repository": {"full_name": "o/r"}, "issue": {"number": 2**70}},
        {"action": "created", "sender": {"login": "a"}, "repository": {"full_name": "o/r"}, "issue": {"number": 1}},
    ],
)
def test_what_lacks_something_is_an_unmapped_delivery(payload: dict[str, Any]) -> None:
    event = event_of("issue_comment", "d", payload)
    assert event.type == "github.delivery"
    kind_of(event)


NAMES = ("login", "user", "assignee", "assignees", "requested_reviewer", "number", "title", "body", "html_url", "state")
leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["@a @B", "approved"])
)
value = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
part = value | st.dictionaries(st.sampled_from(NAMES), value)
PARTS = ("sender", "repository", "issue", "pull_request", "discussion", "comment", "review", "answer", "changes")
ACTIONS = ("created", "opened", "edited", "assigned", "closed", "reopened", "submitted", "dismissed", "answered")


@given(
    st.sampled_from([*examples(), "unheard_of", "\x00"]),
    st.dictionaries(st.sampled_from(PARTS) | st.text(max_size=3), part),
    st.sampled_from(ACTIONS) | leaf,
    st.booleans(),
)
def test_no_payload_makes_it_fail_and_every_event_fits(
    name: str, parts: dict[str, Any], action: Any, known: bool
) -> None:
    frame = {"sender": {"login": "ada"}, "repository": {"full_name": "o/r"}} if known else {}
    event = event_of(name, "d", {**parts, "action": action, **frame})
    kind = kind_of(event)
    for target in targets(kind, "t", event.data):
        render(kind, target.audience, event.data, tenant="t")


@given(st.sampled_from(sorted(examples())), st.data())
def test_a_real_delivery_with_anything_in_one_place_still_fits(name: str, data: st.DataObject) -> None:
    payload = dict(data.draw(st.sampled_from(examples()[name])))
    replaced = data.draw(st.sampled_from(sorted(payload)))
    kind_of(event_of(name, "d", {**payload, replaced: data.draw(value)}))
