"""`make fault-mutations`: breaks one mechanism after the other in a copy, and demands that its test goes red.

A test that cannot fail proves nothing, and one that fails anyhow proves as little: before anything is broken, the tests
must be green in a copy without a mutation. A run can be interrupted: what is done is kept in `.cache/mutations.json`,
and the next call goes on with the mutations that are missing. Once all are done the next call begins anew.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from shared.settings import PROJECT_ROOT
from tests.fault.mutation import Late, Mutation, apply, cases_of, copied, judge, mutations, place_of, printed, run_tests
from tests.fault.mutation_table import TABLE, results_in, table_of
from tests.fault.state import keep, read_state

STATE = PROJECT_ROOT / ".cache" / "mutations.json"
#: What the start of a copy's servers may take, and then each test; the slowest takes a minute on two cores that do
#: nothing else. A mutation often shows only once its test's own deadlines have passed.
START_S = 240.0
TEST_S = 180.0
#: Mutations at once: half of a run is waiting for servers to start, so that two cores carry two.
AT_ONCE = 2


class Word(StrEnum):
    """What a mutation came to."""

    #: Each of its tests failed, for the reason that it names.
    RED = "red"
    #: A test passed, or failed for another reason.
    UNSEEN = "UNSEEN"
    #: A test fails without the mutation as well: it proves nothing.
    NOT_GREEN = "NOT GREEN"
    #: A test did not end in time.
    LATE = "LATE"
    #: The patch does not apply.
    STALE = "STALE"


@dataclass(frozen=True, slots=True)
class Result:
    """One mutation's result: why it is not red, and what its tests' failures said."""

    mutation: Mutation
    word: Word
    why: str = ""
    said: str = ""
    seconds: float = 0.0

    def tell(self) -> None:
        """Print it."""
        print(f"{self.mutation.name:<50} {self.word} in {self.seconds:.0f} s  {self.said}", flush=True)
        if self.why:
            print(f"    {self.why}", flush=True)


def deadline(tests: Sequence[str]) -> float:
    """Return how many seconds these tests may take together."""
    return START_S + TEST_S * len(tests)


def mutate(mutation: Mutation) -> Result:
    """Run a mutation's tests in a copy that has it."""
    began = time.monotonic()
    word, why, said = _mutated(mutation)
    return Result(mutation, word, why, said, time.monotonic() - began)


def _mutated(mutation: Mutation) -> tuple[Word, str, str]:
    with copied() as copy:
        refused = apply(mutation, copy)
        if refused:
            return Word.STALE, refused, ""
        try:
            proof = judge(mutation, run_tests(copy, mutation.tests, deadline(mutation.tests)))
        except Late as late:
            return Word.LATE, str(late), ""
        return (Word.UNSEEN if proof.fault else Word.RED), proof.fault, proof.said


def _not_green(tests: Sequence[str]) -> dict[str, str]:
    """Run tests of one file without a mutation; returns those that did not pass, and what pytest printed."""
    with copied() as copy:
        try:
            cases = run_tests(copy, tests, deadline(tests))
        except Late as late:
            return dict.fromkeys(tests, str(late))
        wrong = [test for test in tests if {case.outcome for case in cases_of(test, cases)} != {"passed"}]
        return dict.fromkeys(wrong, printed(copy))


def not_green(chosen: Sequence[Mutation], at_once: int) -> dict[str, str]:
    """Run every test without a mutation; returns those that failed twice, the second time alone, and what they said."""
    tests = sorted({test for mutation in chosen for test in mutation.tests}, key=place_of)
    print(f"{len(tests)} tests without a mutation …", flush=True)
    files = [list(group) for _, group in groupby(tests, key=lambda test: place_of(test)[0])]
    with _threads(at_once) as threads:
        wrong = [test for found in threads.map(_not_green, files) for test in found]
    again: dict[str, str] = {}
    for test in wrong:
        print(f"    once more, alone: {test}", flush=True)
        again.update(_not_green([test]))
    return again


@contextmanager
def _threads(at_once: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing new once this is left."""
    threads = ThreadPoolExecutor(at_once)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def results(chosen: Sequence[Mutation], at_once: int) -> Iterator[Result]:
    """Give each mutation's result as soon as it is there."""
    failing = not_green(chosen, at_once)
    left = []
    for mutation in chosen:
        wrong = [test for test in mutation.tests if test in failing]
        if wrong:
            why = f"{', '.join(wrong)}: fails without the mutation as well:\n{failing[wrong[0]]}"
            yield Result(mutation, Word.NOT_GREEN, why)
        else:
            left.append(mutation)
    with _threads(at_once) as threads:
        yield from map(Future.result, as_completed([threads.submit(mutate, mutation) for mutation in left]))


def due(state: dict[str, str], only: Sequence[str]) -> list[Mutation]:
    """Return the mutations to run now: those whose names `only` begin; or those not seen as they are now; or all."""
    every = mutations()
    if only:
        chosen = [mutation for mutation in every if mutation.name.startswith(tuple(only))]
        if not chosen:
            raise SystemExit(f"No mutation's name begins with {' or '.join(only)}.")
        return chosen
    left = [mutation for mutation in every if state.get(mutation.name) != mutation.digest]
    if not left:
        state.clear()
    return left or every


def told_and_kept(found: Iterable[Result], state: dict[str, str]) -> Iterator[Result]:
    """Print each result, keep it, and write the table."""
    today = time.strftime("%Y-%m-%d")
    for result in found:
        result.tell()
        state.pop(result.mutation.name, None)
        if result.word is Word.RED:
            state[result.mutation.name] = result.mutation.digest
        keep(STATE, state)
        cell = f"{result.word} {today}" if result.word is Word.RED else f"**{result.word}** {today}"
        TABLE.write_text(table_of(mutations(), {**results_in(TABLE.read_text()), result.mutation.name: cell}))
        yield result


def main() -> None:
    """Break what is due in turn; ends with 1 when something of it was not seen."""
    parser = argparse.ArgumentParser(description="Break one mechanism after the other, and see its test go red.")
    parser.add_argument("--only", nargs="+", default=[], help="mutations whose names begin like one of these")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="copies that run at the same time")
    options = parser.parse_args()
    # A signal ends the run as Ctrl-C does: nothing that was started is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began, state = time.monotonic(), read_state(STATE)
    chosen = due(state, options.only)
    ended = list(told_and_kept(results(chosen, options.at_once), state))
    seen = sum(result.word is Word.RED for result in ended)
    print(f"{seen} of {len(chosen)} mutations seen, in {time.monotonic() - began:.0f} s")
    sys.exit(0 if seen == len(chosen) else 1)


if __name__ == "__main__":
    main()
