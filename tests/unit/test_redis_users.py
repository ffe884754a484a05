"""The users of Redis: what docs/security.md tells to set up is what the embedded one has."""

from __future__ import annotations

from shared.redis_users import RULES, directives
from shared.settings import PROJECT_ROOT


def test_the_documentation_tells_the_rules_of_each_user() -> None:
    told = (PROJECT_ROOT / "docs" / "security.md").read_text()
    assert [user for user, rules in RULES.items() if f"user {user} on >… {rules}\n" not in told] == []


def test_no_password_is_written_in_clear() -> None:
    first, second = directives("secret-of-the-server").splitlines()
    assert first.split()[:3] == ["user", "carillon-stream", "on"]
    assert [line.split()[3][0] for line in (first, second)] == ["#", "#"]
    assert "secret" not in first + second
