"""The door: what is let in comes out whole, and every refusal names what was refused."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import strict_json
from shared.errors import FieldError, InvalidInput, MalformedBody
from shared.strict_json import MAX_DEPTH, MAX_KEYS, Limits, clean, faults, loads


def _refusal(body: bytes | str) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as refused:
        loads(body)
    orjson.dumps(refused.value.as_json())
    return [(error.field, error.message) for error in refused.value.errors]


def _nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"\xff{}", "The body is not UTF-8."),
        (b'"\xed\xa0\x80"', "The body is not UTF-8."),
        (b"", "The body is not valid JSON: expecting value at line 1, column 1."),
        (
            b'{"a": 1,}',
            "The body is not valid JSON: expecting property name enclosed in double quotes at line 1, column 9.",
        ),
        (b"{} {}", "The body is not valid JSON: extra data at line 1, column 4."),
        (b'"\x00"', "The body is not valid JSON: invalid control character at at line 1, column 2."),
        (b'"a\nb"', "The body is not valid JSON: invalid control character at at line 1, column 3."),
        (b'{"a": NaN}', "The body is not valid JSON: NaN is no JSON number."),
        (b"[Infinity]", "The body is not valid JSON: Infinity is no JSON number."),
        (b"[-Infinity]", "The body is not valid JSON: -Infinity is no JSON number."),
    ],
)
def test_what_is_no_json_in_utf_8_is_malformed(body: bytes, detail: str) -> None:
    with pytest.raises(MalformedBody) as refused:
        loads(body)
    assert (refused.value.status, refused.value.detail) == (400, detail)


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (r'{"a": {"b": "x\u0000"}}', "a.b", "contains a character that is not allowed"),
        (r'{"a": ["x", "\r"]}', "a.1", "contains a character that is not allowed"),
        ('{"a": "\x7f"}', "a", "contains a character that is not allowed"),
        ('{"a": "\x85"}', "a", "contains a character that is not allowed"),
        (r'{"a": "\ud800"}', "a", "contains a character that is not allowed"),
        (r'{"a": "\udc00\ud800"}', "a", "contains a character that is not allowed"),
        (r'{"a": {"\ud800": 1}}', r"a.\ud800", "has a name with a character that is not allowed"),
        ('{"a": 1, "b": 2, "a": 1}', "a", "stands twice in one object"),
        ('{"a": [{"b": 1, "b": 1}]}', "a.0.b", "stands twice in one object"),
        ('{"a": 9223372036854775808}', "a", "is a number out of range"),
        ('{"a": -9223372036854775809}', "a", "is a number out of range"),
        ('{"a": %s}' % ("9" * 5_000), "a", "is a number out of range"),
        ('{"a": 1e400}', "a", "is a number out of range"),
    ],
)
def test_each_refused_value_is_named_by_its_path(body: str, field: str, message: str) -> None:
    assert _refusal(body) == [(field, message)]


def test_the_largest_integers_pass_exactly() -> None:
    assert loads("[9223372036854775807, -9223372036854775808]") == [2**63 - 1, -(2**63)]


def test_newline_tab_and_paired_surrogates_are_let_in() -> None:
    assert loads(r'"a\n\tb\ud83d\ude00"') == "a\n\tb\U0001f600"


def test_nesting_passes_up_to_the_limit_and_not_beyond() -> None:
    assert loads(_nested(MAX_DEPTH)) is not None
    assert _refusal(_nested(MAX_DEPTH + 1)) == [(".".join(["0"] * MAX_DEPTH), "is nested deeper than 32 levels")]


@pytest.mark.parametrize("levels", [1_000, 100_000])
def test_nesting_beyond_what_can_be_read_is_refused_without_a_crash(levels: int) -> None:
    ((_, message),) = _refusal(_nested(levels))
    assert message == "is nested deeper than 32 levels"


def test_keys_are_counted_over_the_whole_document() -> None:
    half = {f"k{n}": n for n in range(MAX_KEYS // 2 - 1)}
    assert loads(json.dumps({"a": half, "b": half})) == {"a": half, "b": half}
    assert _refusal(json.dumps({"a": half, "b": {**half, "more": 1}})) == [("b", "brings the document over 1,000 keys")]


def test_every_fault_is_told_up_to_a_hundred() -> None:
    assert _refusal(r'{"a": "\u0000", "b": 1e999}') == [
        ("a", "contains a character that is not allowed"),
        ("b", "is a number out of range"),
    ]
    assert len(_refusal(json.dumps(["\0"] * 1_000))) == strict_json.MAX_FAULTS


def test_a_fault_in_a_batch_carries_its_index() -> None:
    assert faults({"a": "\0"}, index=7) == (FieldError("a", "contains a character that is not allowed", 7),)


def test_a_long_name_is_cut_in_the_answer() -> None:
    ((field, _),) = _refusal(json.dumps({"x" * 5_000: "\0"}))
    assert field == "x" * 100


def test_limits_can_be_widened_for_somebody_elses_documents() -> None:
    assert loads(r'{"text": "a\r\nb"}', Limits(characters=False)) == {"text": "a\r\nb"}
    assert clean({"text": ["a\r\nb\x00", 1, None]}) == {"text": ["a\nb", 1, None]}


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé", max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_every_decent_document_passes_unchanged(value: Any) -> None:
    assert loads(json.dumps(value)) == value
    assert loads(orjson.dumps(value)) == value


@given(st.binary(max_size=200))
def test_whatever_bytes_come_the_answer_is_a_value_or_a_named_refusal(body: bytes) -> None:
    try:
        orjson.dumps(loads(body))
    except (MalformedBody, InvalidInput) as refused:
        orjson.dumps(refused.as_json())
