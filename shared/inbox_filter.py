"""Which notifications of one inbox a page shows, as SQL over `n`.

There is no index for any of it: an inbox holds at most the cap's number of notifications and the tombstones beside
them, all found by (inbox, ordinal), and an index more would be paid for on every row of every fan-out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Filter:
    """What a page shows; conditions are combined by "and". None means no condition.

    Archived notifications are left out unless asked for, and then they alone are shown. `types` are names of the
    catalog; an empty tuple matches nothing. `metadata` is a JSON object that the notification's contains (`@>`).
    `created_from` is inclusive and `created_before` is not, so that ranges lie side by side.
    """

    unread: bool | None = None
    archived: bool = False
    types: tuple[str, ...] | None = None
    priorities: tuple[int, ...] | None = None
    metadata: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None

    @property
    def plain(self) -> bool:
        """True where the page shows the whole inbox, so that the inbox's own total counts it."""
        return self == Filter()

    def conditions(self) -> tuple[str, dict[str, Any]]:
        """Return SQL over `n`, and its parameters."""
        parts = ["n.deleted_at IS NULL", f"n.archived_at IS {'NOT ' if self.archived else ''}NULL"]
        if self.unread is not None:
            parts.append(f"n.read_at IS {'' if self.unread else 'NOT '}NULL")
        values: dict[str, Any] = {}
        for name, condition, value in self._compared():
            if value is not None:
                parts.append(condition)
                values[name] = value
        return " AND ".join(parts), values

    def _compared(self) -> tuple[tuple[str, str, Any], ...]:
        return (
            ("types", "n.type = ANY(:types)", None if self.types is None else list(self.types)),
            ("priorities", "n.priority = ANY(:priorities)", None if self.priorities is None else list(self.priorities)),
            ("metadata", "n.metadata @> CAST(:metadata AS jsonb)", self.metadata),
            ("created_from", "n.created_at >= :created_from", self.created_from),
            ("created_before", "n.created_at < :created_before", self.created_before),
        )
