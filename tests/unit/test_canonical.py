"""The canonical form: RFC 8785, with exact integers, and steady over PostgreSQL's jsonb."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import orjson
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from shared.canonical import canonical

SAFE = 2**53 - 1
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)


def _values(integers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
        max_leaves=20,
    )


@given(_values(st.integers(-SAFE, SAFE)))
def test_it_is_rfc_8785_wherever_that_can_write_the_numbers(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(_values(st.integers(-(2**63), 2**63 - 1)))
def test_it_does_not_depend_on_the_order_of_names_or_the_white_space(value: Any) -> None:
    turned = json.loads(json.dumps(value, indent=3), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert canonical(turned) == canonical(value)


def test_long_integers_keep_their_digits() -> None:
    assert canonical([2**53, 2**53 + 1, -(2**63)]) == b"[9007199254740992,9007199254740993,-9223372036854775808]"


def test_names_are_ordered_by_their_utf_16_units() -> None:
    assert canonical({"\ufb33": 1, "\U0001f600": 2, "a": 3}) == '{"a":3,"\U0001f600":2,"\ufb33":1}'.encode()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_that_jsonb_writes_out_in_full_is_still_the_same(value: float) -> None:
    """jsonb keeps numbers as decimals: 1e20 comes back as 100000000000000000000, 1.50 as 1.50, 1E-7 as 0.0000001."""
    handed_back = f"{Decimal(orjson.dumps(value).decode()):f}"
    assert canonical(orjson.loads(handed_back)) == canonical(value)
