"""The ids by which an event, and a request, is found in every part's log."""

from __future__ import annotations

import hashlib

import pytest

from shared import following
from shared.following import is_sampled, request_id, told_trace, trace_id_of, trace_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
#: The same as `printf 'acme\0/tests\0e1' | sha256sum | cut -c1-32`.
NAMED = hashlib.sha256(b"acme\0/tests\0e1").hexdigest()[:32]


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (None, NAMED),
        (f"00-{TRACE}-{SPAN}-01", TRACE),
        (f"00-{TRACE}-{SPAN}-00", TRACE),
        # What `carillon_publish` stored unseen.
        ("none of that", NAMED),
        (f"00-{TRACE}-{SPAN}-01\n", NAMED),
        ("", NAMED),
    ],
)
def test_an_events_id_is_its_traces_or_follows_from_its_name(traceparent: str | None, expected: str) -> None:
    assert trace_id_of("acme", "/tests", "e1", traceparent) == expected
    row = {"tenant": "acme", "source": "/tests", "id": "e1", "traceparent": traceparent}
    assert trace_of(row) == expected


def test_names_that_run_into_each_other_have_ids_of_their_own() -> None:
    names = [("acme", "/a", "b"), ("acme", "/ab", ""), ("acme/", "a", "b"), ("acm", "e/a", "b")]
    assert len({trace_id_of(*name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True), ("1", False)]
)
def test_the_last_flag_alone_says_that_a_trace_is_sampled(flags: str, sampled: bool) -> None:
    assert is_sampled(f"00-{TRACE}-{SPAN}-{flags}") is sampled
    assert is_sampled(None) is False


@pytest.mark.parametrize("given", ["a", "7f3a-12", "x" * 64, "5f0c:1/2+3=._~", "0b9e2c1e-6d55-4c55-9d39-5d6c2a7e3f11"])
def test_a_senders_request_id_is_taken_over(given: str) -> None:
    assert request_id(given, "task") == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", 'a"b', "a\nb", "a\n", "ü", "a;b", "<b>", 7])
def test_one_that_is_long_or_odd_is_replaced(given: object) -> None:
    assert request_id(given, "task") == "task"
    made = {request_id(given) for _ in range(100)}
    assert len(made) == 100
    assert {len(each) for each in made} == {32}
    assert not made & {given}


@pytest.mark.parametrize("given", ["", TRACE[:-1], TRACE + "0", TRACE.upper(), f"{TRACE[:-1]}\n", None, 7])
def test_a_task_carries_a_trace_id_or_none(given: object) -> None:
    assert told_trace({following.TRACE_HEADER: given}) == {}
    assert told_trace({}) == {}
    assert told_trace({following.TRACE_HEADER: TRACE}) == {"trace_id": TRACE}
