"""Producers' outboxes: that the relay can work in them, that it does, and what Carillon refused."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Row

from shared import outbox
from shared.doctor.finding import Finding
from shared.errors import CarillonError
from shared.liveness import QUEUE_AGE_SECONDS
from shared.settings import Settings


def checks(chosen: Settings) -> Iterator[Finding]:
    """Yield what is wrong with each outbox of the settings."""
    for name in chosen.outboxes:
        try:
            with outbox.once(name) as (connection, schema):
                row = connection.execute(outbox.numbers(schema)).one()
        except outbox.OutboxAway as problem:
            yield Finding("warning", "outbox", problem.detail[:-1], "start it, or correct CARILLON_OUTBOXES")
        except CarillonError as problem:
            what, _, advice = problem.detail.rstrip(".").rpartition(": ")
            yield Finding("failure", "outbox", what, advice)
        else:
            yield from _of(name, row)


def _of(name: str, row: Row[tuple[int, int, float]]) -> Iterator[Finding]:
    if row.waiting and row.oldest_s > QUEUE_AGE_SECONDS:
        what = f"{row.waiting:,} events wait in the outbox {name}, the oldest for {row.oldest_s:.0f} s"
        yield Finding("failure", "outbox", what, "start `carillon relay` (`make up` does), and look into its log")
    else:
        yield Finding("ok", "outbox", f"no event waits for long in the outbox {name}")
    if row.refused:
        advice = f"`carillon outbox refused {name}` says why, `carillon outbox retry {name} --all` tries again"
        yield Finding("warning", "outbox_refused", f"{row.refused:,} events of the outbox {name} are refused", advice)
