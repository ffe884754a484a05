"""docs/mutations.md: every mutation in the words of its patch, and what its last run came to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from shared.settings import PROJECT_ROOT
from tests.fault.mutation import Mutation

TABLE = PROJECT_ROOT / "docs" / "mutations.md"
HEADER = """# What is broken on purpose, and which test sees it

Written by `make fault-mutations`. Each line is a patch in `tests/fault/mutations/` that breaks one mechanism. It is
applied to a copy, and its tests must go red there with the failure that it names, having been green without it.
`make test` checks that every patch still applies. The last column says what the last run of a mutation came to:
*red* is what it should be; *UNSEEN*, a test passed or failed for another reason; *NOT GREEN*, a test fails without the
mutation as well; *LATE*, a test did not end; *STALE*, the patch does not apply; empty, it was not run yet.

| mutation | breaks | of | goes red | showing | result |
| --- | --- | --- | --- | --- | --- |
"""
_ROW = re.compile(r"^\| `(?P<name>[^`]+)` \| .* \| (?P<result>[^|]*) \|$", re.MULTILINE)


def row_of(mutation: Mutation) -> str:
    """Return a mutation's line up to its result."""
    tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in mutation.tests)
    shows = "<br>".join(f"`{words.replace('|', chr(92) + '|')}`" for words in mutation.reasons.values())
    return f"| `{mutation.name}` | {mutation.breaks} | {mutation.invariant} | {tests} | {shows} |"


def results_in(table: str) -> dict[str, str]:
    """Return what a table says of each mutation's last run."""
    return {found["name"]: found["result"] for found in _ROW.finditer(table)}


def table_of(every: Sequence[Mutation], results: Mapping[str, str]) -> str:
    """Return the table of all mutations with these results."""
    rows = "".join(f"{row_of(mutation)} {results.get(mutation.name, '')} |\n" for mutation in every)
    red = sum(results.get(mutation.name, "").startswith("red") for mutation in every)
    return f"{HEADER}{rows}\n{red} of {len(every)} seen.\n"
