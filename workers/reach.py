"""Whom a batch of events reaches, within what one transaction may touch."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from shared import audience
from workers.prepare import Prepared, Row

Rows = Sequence[Row]
#: Inbox key → the place of the target that reached it first, and its row.
Audience = dict[int, tuple[int, Row]]
Reached = list[tuple[Prepared, Audience]]


def read_within(connection: Connection, prepared: list[Prepared], bound: int) -> tuple[list[Prepared], Rows]:
    """Return the first events whose audiences together are within the bound, and those; or one that is not.

    A full answer may be cut anywhere, so it is asked again for the events before the last one that it mentions, and for
    half of them at most: a plan without order mentions one of the last ones, and 200 events took 40 questions.
    """
    kept = prepared
    while True:
        targets = [target for event in kept for target in event.targets]
        if not targets:
            return kept, []
        given = {**audience.columns(targets), **audience.EVERYWHERE, "limit": bound + 1}
        rows = connection.execute(audience.read_audience(), given).mappings().all()
        if len(rows) <= bound or len(kept) == 1:
            return kept, rows
        last = max(row["event"] for row in rows)
        kept = [event for event in kept[: len(kept) // 2] if event.place < last] or kept[:1]


def by_event(kept: list[Prepared], rows: Rows) -> Reached:
    """Return each event with its audience: everybody once, by the first target that reaches them."""
    found: dict[int, Audience] = {event.place: {} for event in kept}
    for row in sorted(rows, key=lambda row: row["place"]):
        found[row["event"]].setdefault(row["key"], (row["place"], row))
    return [(event, found[event.place]) for event in kept]
