"""Whether a database has what this release needs."""

from __future__ import annotations

import pytest

from shared import migration


@pytest.mark.parametrize(
    ("there", "expected"), [(None, False), ("0000", False), ("0009", False), ("0010", True), ("0011", True)]
)
def test_a_newer_releases_database_serves_an_older_one(
    monkeypatch: pytest.MonkeyPatch, there: str | None, expected: bool
) -> None:
    """While an upgrade runs, old processes must stay ready: only expanding migrations have run yet."""
    monkeypatch.setattr(migration, "head_revision", lambda: "0010")
    assert migration.is_migrated(there) is expected


def test_revisions_are_numbers_of_four_digits_which_is_how_they_are_compared() -> None:
    head = migration.head_revision()
    assert head is not None
    assert (len(head), head.isdigit()) == (4, True)
