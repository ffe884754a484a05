"""Failed logins in the law test: several events make one, which changes while more of them come."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from shared.cloudevent import RESERVED_SOURCE
from tests.directory import Row
from tests.law.events import TENANT, Posted
from workers import failed_logins

#: Failed logins that become an event.
THRESHOLD = 3
#: A notification of failed logins changes at most once a minute, and for an hour.
MORE_THAN_A_MINUTE = timedelta(seconds=61)
COUNTS_IN_AN_HOUR = 59


@dataclass(slots=True)
class Account:
    """An account whose logins fail, and how far all of that should be."""

    name: str
    envelopes: list[dict[str, Any]] = field(default_factory=list)
    #: How many failures ended as events, how many of those were counted, and how many the notification tells.
    ended: int = 0
    counted: int = 0
    told: int = 0
    event: Posted | None = None


@dataclass(slots=True)
class Logins:
    """The accounts of one example, and the clock of the job that counts their failures."""

    database: psycopg.Connection[Row]
    accounts: list[Account] = field(default_factory=list)
    _counts: int = 0

    def ringing(self) -> list[Account]:
        """Return the accounts of which a notification was made."""
        return [account for account in self.accounts if account.event is not None and account.event.due]

    def ended(self) -> None:
        """The fan-out has ended every failure that was posted."""
        for account in self.accounts:
            account.ended = len(account.envelopes)

    def count(self) -> list[Posted]:
        """Run the job, a minute after its last run; returns the events that it made."""
        self._counts += 1
        assert self._counts < COUNTS_IN_AN_HOUR
        assert failed_logins.run(datetime.now(UTC) + self._counts * MORE_THAN_A_MINUTE)
        made = [
            self._made(account) for account in self.accounts if account.event is None and account.ended >= THRESHOLD
        ]
        for account in self.accounts:
            account.counted = account.ended
            is_new = account.event in made
            if account.event is not None and (is_new or (account.event.due and not account.event.cancelled)):
                account.told = account.counted
        return made

    def _made(self, account: Account) -> Posted:
        (row,) = self.database.execute(
            "SELECT key, id FROM events WHERE type = 'security.login_failed' AND subject = %s", (account.name,)
        ).fetchall()
        account.event = Posted(row["id"], row["key"], account.envelopes, account.name, source=RESERVED_SOURCE)
        return account.event

    def leave(self) -> None:
        """Let nothing that is under way reach the next example."""
        if self.accounts:
            left = "UPDATE events SET state = 'failed' WHERE state = 'accepted' AND tenant = %s"
            self.database.execute("DELETE FROM failed_logins")
            self.database.execute(left.encode(), (TENANT,))
