"""What was acknowledged to producers, what each stream was told of it, and everything that should not have happened."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

#: An event for all: its audience is every recipient.
EVERYONE = -1
#: Faults told in full; beyond, they are only counted.
MOST_TOLD = 50


@dataclass(slots=True)
class Ledger:
    """Kept on the event loop's thread alone. Recipients are numbers from 0."""

    people: int
    #: Acknowledged events: id → recipient, or EVERYONE.
    acknowledged: dict[str, int] = field(default_factory=dict)
    #: For each recipient the acknowledged events that its stream was not told of yet, with the time of the answer; and
    #: all events that it was told of.
    owed: list[dict[str, float]] = field(default_factory=list)
    told: list[set[str]] = field(default_factory=list)
    #: What became of each attempt to post, by the answer's status or the error's name.
    answers: Counter[str] = field(default_factory=Counter)
    #: What happened to streams, by kind, right or wrong.
    happened: Counter[str] = field(default_factory=Counter)
    #: What must not happen, by kind and in words.
    wrong: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)
    #: Events that a restored backup forgot, by agreement.
    forgiven: set[str] = field(default_factory=set)
    #: The longest time in seconds from an event's acknowledgement until a stream was told of it.
    longest_wait: float = 0.0

    def __post_init__(self) -> None:
        self.owed = [{} for _ in range(self.people)]
        self.told = [set() for _ in range(self.people)]

    def acknowledge(self, id: str, recipient: int) -> None:
        """An event was answered with 202: from now on it is owed to its audience."""
        self.acknowledged[id] = recipient
        now = time.monotonic()
        for one in range(self.people) if recipient == EVERYONE else (recipient,):
            if id not in self.told[one]:
                self.owed[one][id] = now

    def hear(self, recipient: int, id: str) -> None:
        """The recipient's stream was told of an event, perhaps before its producer had the answer."""
        self.told[recipient].add(id)
        since = self.owed[recipient].pop(id, None)
        if since is not None:
            self.longest_wait = max(self.longest_wait, time.monotonic() - since)

    def forgive(self) -> None:
        """A backup was restored: nothing of before is owed any more, and what was told may come again."""
        self.forgiven |= set(self.acknowledged)
        self.acknowledged.clear()
        for one in range(self.people):
            self.owed[one].clear()
            self.told[one].clear()

    def blame(self, kind: str, words: str) -> None:
        """Something happened that must not."""
        self.wrong[kind] += 1
        if len(self.words) < MOST_TOLD:
            self.words.append(f"{time.strftime('%H:%M:%S')} {kind}: {words}")

    def snapshot(self) -> list[set[str]]:
        """Return what is owed at this moment."""
        return [set(owed) for owed in self.owed]

    def still_owed(self, before: list[set[str]]) -> int:
        """Return how many tellings of an earlier snapshot are still due."""
        return sum(len(then & now.keys()) for then, now in zip(before, self.owed, strict=True))
