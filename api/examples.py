"""What the calls answer, for example; and which answer leads to which call."""

from __future__ import annotations

from typing import Any

_ID = "019a9f5c-1c00-8b51-a9d4-3f2a77c01e6b"
_COUNTS = {"unreadCount": 4, "unseenCount": 2, "cursor": "1-42"}
_NOTIFICATION = {
    "id": _ID,
    "createdSeq": 42,
    "seq": 42,
    "tenant": "uni-berlin",
    "type": "CERTIFICATE_ISSUED",
    "category": "certificate",
    "title": "Certificate Issued",
    "message": 'Your certificate "Linear Algebra" has been issued and is pending blockchain confirmation.',
    "priority": "NORMAL",
    "metadata": {"certificateId": "c1", "badgeTitle": "Linear Algebra"},
    "actionUrl": "/student/certificates/c1",
    "read": False,
    "readAt": None,
    "seenAt": None,
    "archivedAt": None,
    "createdAt": "2026-03-01T12:00:00.123456Z",
    "expiresAt": None,
}
_RECIPIENT = {"tenant": "uni-berlin", "id": "ada", "roles": ["student"], "locale": "en", "attributes": {"name": "Ada"}}
_RULE = {
    "audience": 0, "kind": "recipient", "name": "ada", "tenant": "uni-berlin", "matches": True, "why": None,
}  # fmt: skip
_REJECTED = {"rejected": 1, "errors": [{"line": 7, "field": "id", "message": "is required"}]}

#: By the name of the body's model.
BODIES: dict[str, dict[str, Any]] = {
    "MarkOne": {"read": True},
    "MarkAll": {"read": True, "upTo": "1-42"},
    "ReadAll": {"upTo": "1-42"},
    "RecipientBody": {"roles": ["student"], "locale": "en", "attributes": {"name": "Ada"}},
    "RevocationBody": {"tenant": "uni-berlin", "recipient": "ada"},
    "GraphQLRequest": {"query": "{ unreadNotificationCount }"},
}
#: By the name of the answer's schema.
ANSWERS: dict[str, dict[str, Any]] = {
    "Page": {
        "inbox": "uni-berlin/ada",
        "nodes": [_NOTIFICATION],
        "pageInfo": {"hasNextPage": True, "endCursor": "o42"},
        "totalCount": 17,
        **_COUNTS,
    },
    "UnreadCounts": {**_COUNTS, "byCategory": {"certificate": {"unreadCount": 4, "unseenCount": 2}}},
    "Changes": {
        "inbox": "uni-berlin/ada",
        "changes": [{"id": "1-42", "prev": 40, "type": "changed", "notifications": [_NOTIFICATION], "deletedIds": []}],
        "hasMore": False,
        "reset": False,
        **_COUNTS,
    },
    "NotificationAnswer": {**_NOTIFICATION, **_COUNTS},
    "Changed": {"changed": 3, **_COUNTS},
    "Deleted": {"id": _ID, "deleted": True, **_COUNTS},
    "GraphQLAnswer": {"data": {"unreadNotificationCount": 4}},
    "Posted": {"events": [{"id": "c-1", "status": "accepted"}]},
    "EventState": {
        "tenant": "uni-berlin",
        "source": "/registrar",
        "id": "c-1",
        "type": "certificate.issued",
        "state": "done",
        "counts": {"recipients": 2, "notifications": 2, "published": 2, "seen": 1, "read": 1},
        "acceptedAt": "2026-03-01T12:00:00.123456Z",
        "finishedAt": "2026-03-01T12:00:00.234567Z",
        "error": None,
    },
    "Explanation": {
        "event": {
            "tenant": "uni-berlin",
            "source": "/registrar",
            "id": "c-1",
            "type": "certificate.issued",
            "state": "done",
            "traceId": "a852f6ef5f7c0ad14e1ae6b36bb966c5",
        },
        "recipient": {"tenant": "uni-berlin", "id": "ada", "registered": True},
        "outcome": "read",
        "reason": "The recipient opened it.",
        "rule": _RULE,
        "rules": [_RULE],
        "notificationId": _ID,
        "steps": [
            {"step": "accepted", "at": "2026-03-01T12:00:00.123456Z", "note": None},
            {"step": "stored", "at": "2026-03-01T12:00:00.23Z", "note": None},
            {"step": "read", "at": "2026-03-01T12:04:00Z", "note": None},
        ],
    },
    "TenantAnswer": {"id": "uni-berlin"},
    "RecipientAnswer": {**_RECIPIENT, "createdAt": "2026-03-01T12:00:00Z", "updatedAt": "2026-03-01T12:00:00Z"},
    "Imported": {"created": 998, "updated": 1, **_REJECTED},
    "Members": {"members": ["ada", "ben"], "hasNextPage": False},
    "TopicsChanged": {"changed": 998, "unchanged": 1, **_REJECTED},
    "Probe": {
        "id": _ID,
        "state": "done",
        "notifications": 1,
        "activeConnections": 2,
        "pushConfirmed": True,
        "milliseconds": 18.3,
    },
    "SessionAnswer": {"tenant": "uni-berlin", "recipient": "ada", "expiresAt": "2026-03-01T13:00:00Z"},
    "RevocationAnswer": {"tenant": "uni-berlin", "recipient": "ada", "revokedAt": "2026-03-01T12:00:00Z"},
    "Alive": {"status": "alive"},
    "Readiness": {"status": "ready", "degraded": ["redis"]},
}


def _link(operation: str, **parameters: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": parameters}


_FIRST_NODE = "$response.body#/nodes/0/id"
_EVENT = {"id": "$response.body#/events/0/id", "source": "$request.body#/source", "tenant": "$request.body#/tenant"}
_SAME_EVENT = {"id": "$request.path.id", "source": "$request.query.source", "tenant": "$request.query.tenant"}
_SAME_RECIPIENT = {"tenant": "$request.path.tenant", "id": "$request.path.id"}
_SAME_MEMBER = {"tenant": "$request.path.tenant", "topic": "$request.path.topic"}

#: By method and path.
LINKS: dict[tuple[str, str], dict[str, Any]] = {
    ("get", "/api/notifications"): {
        "one": _link("inbox.one", id=_FIRST_NODE),
        "markOne": _link("inbox.mark_one", id=_FIRST_NODE),
        "deleteOne": _link("inbox.delete_one", id=_FIRST_NODE),
        "next": _link("inbox.page", after="$response.body#/pageInfo/endCursor"),
        "changes": _link("inbox.changes", since="$response.body#/cursor"),
        "deleteRead": _link("inbox.delete_read", upTo="$response.body#/cursor"),
    },
    ("patch", "/api/notifications/{id}"): {"one": _link("inbox.one", id="$response.body#/id")},
    ("delete", "/api/notifications/{id}"): {"changes": _link("inbox.changes", since="$response.body#/cursor")},
    ("post", "/api/events"): {
        "state": _link("producers.get", **_EVENT),
        "cancel": _link("producers.cancel", **_EVENT),
    },
    ("delete", "/api/events/{id}"): {"state": _link("producers.get", **_SAME_EVENT)},
    ("put", "/api/recipients/{tenant}/{id}"): {
        "get": _link("directory.get_recipient", **_SAME_RECIPIENT),
        "delete": _link("directory.delete_recipient", **_SAME_RECIPIENT),
        "join": _link("directory.join", tenant="$request.path.tenant", recipient="$request.path.id"),
    },
    ("put", "/api/topics/{tenant}/{topic}/members/{recipient}"): {
        "members": _link("directory.get_members", **_SAME_MEMBER),
        "leave": _link("directory.leave", **_SAME_MEMBER, recipient="$request.path.recipient"),
    },
}
