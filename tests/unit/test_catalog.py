"""The catalog as it is shipped: complete, in the known words, and reaching whom architecture's tables say."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.catalog import Audience, EventType, catalog, targets
from shared.errors import InvalidInput
from shared.settings import PROJECT_ROOT
from shared.templates import Rendered, is_personal, render

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
#: `RECORD_GOLDEN=1 pytest tests/unit/test_catalog.py` writes the files anew; look at the difference before committing.
RECORD = bool(os.environ.get("RECORD_GOLDEN"))

#: By noun; a type is `<noun>.<what happened>`.
EVERY_TYPE = {
    "university": ["registered", "approved", "rejected", "suspended"],
    "certificate": ["issued", "minted", "revoked", "verified"],
    "zk_commitment": ["registered"],
    "zk_proof": ["uploaded", "verified", "failed"],
    "batch_job": ["completed", "failed"],
    "security": ["login_failed", "account_locked", "new_device", "new_login", "wallet_linked"],
    "achievement": ["awarded"],
    "enrollment": ["added", "created", "removed"],
    "system": ["announcement", "test"],
    "ticket": ["assigned", "status_changed"],
    "comment": ["added"],
    "mention": ["created"],
    "grade": ["posted"],
    "payment": ["received", "failed", "due"],
    "course": ["updated"],
    "introduction": ["requested", "accepted", "declined"],
    "lead": ["created", "assigned", "note_added"],
    "auth": ["login_failed"],
    "github": ["assigned", "review_requested", "mentioned", "commented", "reviewed", "state_changed", "delivery"],
}


def a_type(name: str) -> EventType:
    found = catalog().get(name)
    assert found is not None
    return found


def reached(name: str, tenant: str = "uni-7", **changes: Any) -> list[tuple[str, str | None, str]]:
    kind = a_type(name)
    return [(t.kind, t.tenant, t.name) for t in targets(kind, tenant, {**kind.example, **changes})]


def test_every_event_type_is_declared() -> None:
    assert set(catalog().types) == {f"{noun}.{fact}" for noun, facts in EVERY_TYPE.items() for fact in facts}


def test_a_type_knows_its_notification_type_and_is_found_by_it() -> None:
    issued = a_type("certificate.issued")
    assert issued.notification_type == "CERTIFICATE_ISSUED"
    assert catalog().by_notification_type["CERTIFICATE_ISSUED"] is issued
    assert catalog().get("certificate.forged") is None


def test_only_counted_types_have_no_audience() -> None:
    assert {kind.name for kind in catalog() if not kind.shown} == {"auth.login_failed", "github.delivery"}


def test_security_is_urgent_or_high_and_every_category_is_told() -> None:
    security = {kind.name: kind.priority for kind in catalog() if kind.name.startswith("security.")}
    assert set(security.values()) == {"HIGH", "URGENT"}
    assert "security" in catalog().categories()
    assert a_type("payment.due").time_to_live == timedelta(days=90)


STUDENT, OWN, ALL = (
    ("recipient", "uni-7", "ada"),
    ("role", "uni-7", "university_admin"),
    ("role", "platform", "super_admin"),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("university.approved", [OWN, ALL]),
        ("university.rejected", [OWN, ALL]),
        ("university.suspended", [OWN, ALL]),
        ("certificate.issued", [STUDENT, OWN]),
        ("certificate.minted", [STUDENT, OWN]),
        ("certificate.revoked", [STUDENT, OWN]),
        ("certificate.verified", [STUDENT]),
        ("zk_commitment.registered", [STUDENT]),
        ("zk_proof.uploaded", [STUDENT]),
        ("zk_proof.verified", [STUDENT]),
        ("zk_proof.failed", [STUDENT]),
        ("batch_job.completed", [OWN]),
        ("batch_job.failed", [OWN]),
        ("security.login_failed", [ALL, OWN]),
        ("security.account_locked", [ALL, OWN]),
        ("security.new_device", [STUDENT, OWN]),
        ("security.new_login", [STUDENT]),
        ("security.wallet_linked", [STUDENT]),
        ("achievement.awarded", [STUDENT, OWN]),
        ("enrollment.added", [STUDENT]),
        ("auth.login_failed", []),
        ("ticket.status_changed", [("topic", "uni-7", "ticket:1042")]),
        ("comment.added", [("topic", "uni-7", "ticket:1042")]),
        ("course.updated", [("topic", "uni-7", "course:crypto-1")]),
        ("mention.created", [("recipient", "uni-7", "grace")]),
        ("introduction.requested", [("recipient", "uni-7", "grace")]),
        ("introduction.accepted", [STUDENT]),
        ("introduction.declined", [STUDENT]),
        ("lead.created", [("role", "uni-7", "sales_manager")]),
        ("lead.assigned", [("recipient", "uni-7", "grace")]),
    ],
)
def test_a_type_reaches_whom_the_table_says(name: str, expected: list[tuple[str, str, str]]) -> None:
    assert reached(name) == expected


def test_a_registered_university_reaches_the_super_admins_alone() -> None:
    assert reached("university.registered", tenant="platform") == [ALL]


def test_own_means_the_events_tenant_in_the_platform_too() -> None:
    told = reached("security.account_locked", tenant="platform")
    assert told == [ALL, ("role", "platform", "university_admin")]


def test_only_important_notes_are_told() -> None:
    assert reached("lead.note_added", important=True) == [("recipient", "uni-7", "grace")]
    assert reached("lead.note_added", important=False) == []


def test_the_actor_is_not_told_of_an_own_action() -> None:
    assert reached("mention.created", actor_id="grace") == []
    (followers,) = targets(a_type("comment.added"), "uni-7", a_type("comment.added").example)
    assert followers.audience.exclude_actor


@pytest.mark.parametrize(
    ("tenant", "posted", "expected"),
    [
        ("uni-7", {"everyone": True}, ("everyone", "uni-7", "")),
        ("uni-7", {"role": "student"}, ("role", "uni-7", "student")),
        ("uni-7", {"topic": "course:c"}, ("topic", "uni-7", "course:c")),
        ("uni-7", {"tenant": "uni-7"}, ("everyone", "uni-7", "")),
        ("platform", {"everyone": True}, ("everyone", None, "")),
        ("platform", {"role": "student"}, ("role", None, "student")),
        ("platform", {"topic": "beta"}, ("topic", "platform", "beta")),
        ("platform", {"tenant": "uni-7"}, ("everyone", "uni-7", "")),
    ],
)
def test_an_announcement_reaches_its_audience(tenant: str, posted: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert reached("system.announcement", tenant, audience=posted) == [expected]


def test_an_announcement_cannot_reach_into_another_tenant() -> None:
    with pytest.raises(InvalidInput) as refused:
        reached("system.announcement", "uni-7", audience={"tenant": "uni-8"})
    assert [error.field for error in refused.value.errors] == ["audience.tenant"]


def test_the_named_come_before_topics_and_a_person_is_named_once() -> None:
    told = reached("github.commented", mentioned_ids=["hubot", "ada"], participant_ids=["ada", "grace", "octocat"])
    assert told == [
        ("recipient", "uni-7", "hubot"),
        ("recipient", "uni-7", "ada"),
        ("recipient", "uni-7", "grace"),
        ("topic", "uni-7", "github:Codertocat/Hello-World#1"),
    ]


def test_a_hundred_recipients_may_be_named_and_no_more() -> None:
    people = [f"p{number}" for number in range(60)]
    others = [f"q{number}" for number in range(40)]
    told = reached("github.commented", mentioned_ids=people, participant_ids=others)
    assert len(told) == 101
    with pytest.raises(InvalidInput) as refused:
        reached("github.commented", mentioned_ids=people, participant_ids=[*others, "one-more"])
    assert [error.field for error in refused.value.errors] == ["participant_ids"]


def test_every_offending_field_is_named_by_its_path() -> None:
    errors = a_type("certificate.issued").errors({"student_id": 7, "badge_title": "", "colour": "red"})
    assert [(error.field, error.message) for error in errors] == [
        ("badge_title", "must have at least 1 characters"),
        ("certificate_id", "is required"),
        ("colour", "is not a field of this type"),
        ("student_id", "must be a string"),
    ]


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("batch_job.completed", {"total": True}, ("total", "must be an integer")),
        ("batch_job.completed", {"total": "3"}, ("total", "must be an integer")),
        ("batch_job.completed", {"total": 2**63}, ("total", "must be at most 9223372036854775807")),
        ("batch_job.completed", {"job_id": "x" * 201}, ("job_id", "must have at most 200 characters")),
        ("payment.due", {"due_at": "soon"}, ("due_at", "must be a date or a time (RFC 3339)")),
        ("payment.due", {"amount": "12,50"}, ("amount", "does not have the right form")),
        ("lead.note_added", {"important": "yes"}, ("important", "must be true or false")),
        ("system.announcement", {"audience": {}}, ("audience", "must have at least 1 field")),
        ("system.announcement", {"audience": {"role": ""}}, ("audience.role", "must have at least 1 characters")),
        ("system.announcement", {"audience": {"all": 1}}, ("audience.all", "is not a field of this type")),
        ("github.mentioned", {"mentioned_ids": ["a", 1]}, ("mentioned_ids.1", "must be a string")),
        ("github.mentioned", {"mentioned_ids": ["a", "b\n"]}, ("mentioned_ids.1", "must be printable characters")),
        ("system.announcement", {"audience": {"role": "\u200b"}}, ("audience.role", "must be printable characters")),
        (
            "system.announcement",
            {"action_url": "javascript:alert(1)"},
            ("action_url", "must be a path with one leading slash, or an https URL on an allowed host"),
        ),
    ],
)
def test_wrong_data_is_told_without_quoting_it(name: str, change: dict[str, Any], expected: tuple[str, str]) -> None:
    kind = a_type(name)
    assert kind.errors(kind.example) == ()
    assert [(error.field, error.message) for error in kind.errors({**kind.example, **change})] == [expected]


def test_data_that_is_no_object_is_told_once() -> None:
    assert [(e.field, e.message) for e in a_type("lead.created").errors([])] == [("", "must be an object")]


def test_metadata_is_in_camel_case_and_leaves_absent_fields_out() -> None:
    kind = a_type("certificate.minted")
    data = {"student_id": "ada", "certificate_id": "c", "badge_title": "b"}
    assert kind.metadata_of(data) == {"certificateId": "c", "badgeTitle": "b"}
    assert kind.metadata_of({**data, "mint_address": "m"})["mintAddress"] == "m"


def texts(name: str, position: int = 0, **changes: Any) -> Rendered:
    kind = a_type(name)
    return render(kind, kind.audiences[position], {**kind.example, **changes}, tenant="uni-7")


def test_the_known_wording_is_exact() -> None:
    assert texts("certificate.issued", certificate_id="c-1", badge_title="Rust") == Rendered(
        "Certificate Issued",
        'Your certificate "Rust" has been issued and is pending blockchain confirmation.',
        "/student/certificates/c-1",
    )
    assert texts("certificate.minted", certificate_id="c-1", badge_title="Rust") == Rendered(
        "Certificate Minted on Blockchain",
        'Your certificate "Rust" is now live on Solana blockchain!',
        "/student/certificates/c-1",
    )
    assert texts("university.approved", university_name="Porto") == Rendered(
        "University Approved",
        "Porto has been approved. Merkle tree and collection are ready.",
        "/university/dashboard",
    )


def test_admins_get_a_wording_of_their_own() -> None:
    for kind in catalog():
        named = {(a.title, a.message) for a in kind.audiences if a.kind == "recipient"}
        admins = {(a.title, a.message) for a in kind.audiences if a.kind == "role"}
        assert not named & admins, kind.name
    assert texts("certificate.issued", 1).title == "Certificate Issued to a Student"


def test_no_shipped_text_is_personal() -> None:
    """A text that is the same for all is rendered once and multiplied by the database."""
    assert [kind.name for kind in catalog() for audience in kind.audiences if is_personal(audience)] == []


def _variants(kind: EventType) -> list[dict[str, Any]]:
    required = {name: value for name, value in kind.example.items() if name in kind.schema["required"]}
    return [kind.example] if required == kind.example else [kind.example, required]


def _golden(kind: EventType, audience: Audience, data: dict[str, Any]) -> dict[str, Any]:
    rendered = render(kind, audience, data, tenant="acme")
    return {
        "type": kind.notification_type,
        "audience": audience.field or audience.topic or audience.role or audience.kind,
        "data": data,
        "title": rendered.title,
        "message": rendered.message,
        "actionUrl": rendered.action_url,
        "metadata": kind.metadata_of(data),
    }


@pytest.mark.parametrize("domain", sorted({kind.domain for kind in catalog()}))
def test_the_rendered_texts_are_those_on_record(domain: str) -> None:
    kinds = [kind for kind in catalog() if kind.domain == domain]
    now = [_golden(kind, who, data) for kind in kinds for who in kind.audiences for data in _variants(kind)]
    path = GOLDEN / f"{domain}.json"
    if RECORD:
        path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == now


def test_every_event_type_is_in_the_documentation() -> None:
    text = (PROJECT_ROOT / "docs" / "catalog.md").read_text()
    assert {name for name in catalog().types if f"| `{name}` |" not in text} == set()
