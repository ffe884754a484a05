"""What each part may do in a Redis of its own users: written into the embedded one's configuration, and into docs.

Scripting stays with the broker's user, because kombu gives a lock back by a script; whoever finds a way to the other
address reaches no interpreter (CVE-2025-49844), no other keys, and nothing that stops or reconfigures the server.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

User = Literal["carillon-stream", "carillon-broker"]
#: The address CARILLON_REDIS_URL: channels, tickets, limits, presence, flags, and Celery's results.
STREAM: User = "carillon-stream"
#: The address CARILLON_BROKER_URL: Celery chooses its keys' names.
BROKER: User = "carillon-broker"

_ORDINARY = "+@all -@admin -@dangerous +info"
RULES: dict[User, str] = {
    STREAM: "resetkeys ~carillon:* ~celery-task-meta-* resetchannels &carillon:* &celery-task-meta-* "
    f"{_ORDINARY} -@scripting",
    BROKER: f"~* &* {_ORDINARY}",
}


def password_of(user: User, password: str) -> str:
    """Return a user's password, made from the server's own."""
    return hmac.new(password.encode(), user.encode(), hashlib.sha256).hexdigest()


def directives(password: str) -> str:
    """Return the lines of redis.conf that make the users, without their passwords in clear."""
    digests = {user: hashlib.sha256(password_of(user, password).encode()).hexdigest() for user in RULES}
    return "".join(f"user {user} on #{digests[user]} {rules}\n" for user, rules in RULES.items())
