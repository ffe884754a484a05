from __future__ import annotations

from shared.audience import columns, sought
from shared.catalog import Target, catalog, targets

COMMENT = {"ticket_id": "t1", "ticket_title": "Printer", "comment_id": "c1", "excerpt": "…", "actor_id": "ada"}


def test_targets_keep_their_order_of_precedence_as_places() -> None:
    event_type = catalog().get("certificate.issued")
    assert event_type is not None
    data = {"student_id": "ada", "certificate_id": "c1", "badge_title": "Rust"}
    given = columns(sought(3, "acme", data, targets(event_type, "acme", data)))
    assert given == {
        "events": [3, 3],
        "places": [0, 1],
        "kinds": ["recipient", "role"],
        "tenants": ["acme", "acme"],
        "names": ["ada", "university_admin"],
        "event_tenants": ["acme", "acme"],
        "left_outs": [None, None],
        "personals": [False, False],
    }


def test_the_actor_is_left_out_where_the_audience_says_so_and_nowhere_else() -> None:
    comment, issued = catalog().get("comment.added"), catalog().get("certificate.issued")
    assert comment is not None
    assert issued is not None
    followers = targets(comment, "acme", COMMENT)
    assert [one.left_out for one in sought(0, "acme", COMMENT, followers)] == ["ada"]
    everyone = [Target("everyone", "acme", "", issued.audiences[0])]
    assert [one.left_out for one in sought(0, "acme", COMMENT, everyone)] == [None]


def test_without_an_actor_nobody_is_left_out() -> None:
    comment = catalog().get("comment.added")
    assert comment is not None
    data = {name: value for name, value in COMMENT.items() if name != "actor_id"}
    assert [one.left_out for one in sought(0, "acme", data, targets(comment, "acme", data))] == [None]
