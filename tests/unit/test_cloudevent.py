"""The envelope's small print: URIs, times, names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloudevent import is_json, parse_time, read
from shared.errors import InvalidInput
from tests.producers import envelope


def _wrong(**changes: Any) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        read(envelope(**changes))
    return [error.field for error in refused.value.errors]


@pytest.mark.parametrize(
    "source",
    ["/a", "a", "urn:a:b", "https://user@example.org:8080/a;b=c?d=e/f?g#h/i?", "//host/a", "?q", "#f", "a/b:c", ".",
     "mailto:a@b.example", "https://[::1]/", "a%20b", "1a/b", "x" * 200],
)  # fmt: skip
def test_a_uri_reference_is_a_source(source: str) -> None:
    assert read(envelope(source=source)).source == source


@pytest.mark.parametrize("source", ["a b", "a%2", "a%zz", "1a:b", "a#b#c", "é", "a\\b", "<a>", '"', "a[b]", "\t", ":a"])
def test_what_rfc_3986_does_not_allow_is_no_source(source: str) -> None:
    assert _wrong(source=source) == ["source"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01t12:00:00z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00.123456789+02:00", datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2026-03-01T12:00:00-00:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01 12:00:00Z", None),
        ("2026-03-01T12:00:00", None),
        ("2026-03-01T12:00Z", None),
        ("2026-03-01T24:00:00Z", None),
        ("2026-13-01T12:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("2026-03-01T12:00:00+24:00", None),
        ("２026-03-01T12:00:00Z", None),
        ("20260301T120000Z", None),
    ],
)
def test_a_time_is_rfc_3339(text: str, moment: datetime | None) -> None:
    assert parse_time(text) == moment


@given(st.datetimes(timezones=st.timezones(), min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))
def test_what_python_writes_is_read_back(moment: datetime) -> None:
    if moment.utcoffset() is not None and moment.utcoffset().seconds % 60 == 0:  # type: ignore[union-attr]
        assert parse_time(moment.isoformat()) == moment.astimezone(UTC)


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading_of_times(text: str) -> None:
    parse_time(text)


def test_null_is_the_same_as_absent_but_for_the_data() -> None:
    nulls = {"subject": None, "time": None, "dataschema": None, "traceparent": None, "other": None}
    assert read({**envelope(), **nulls}) == read(envelope())
    with pytest.raises(InvalidInput) as refused:
        read({**envelope(), "data": None, "id": None})
    assert [error.field for error in refused.value.errors] == ["id", "data"]


@pytest.mark.parametrize("name", ["Upper", "under_score", "x" * 21, "ü", "a b", "", "a\u202eb"])
def test_an_extension_has_a_name_of_lower_case_letters_and_digits(name: str) -> None:
    assert len(_wrong(**{name: "x"})) == 1


def test_ids_are_printable() -> None:
    for id in ("a\nb", "a\tb", "\u200b", "\u2028", "\ue000"):
        assert _wrong(id=id) == ["id"]
    assert read(envelope(id="ünï / c🔔de")).id == "ünï / c🔔de"


@pytest.mark.parametrize(
    ("media_type", "json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.x+json", True),
        ("application/jsonp", False),
        ("text/json", False),
        ("", False),
        (7, False),
    ],
)
def test_what_is_json(media_type: object, json: bool) -> None:
    assert is_json(media_type) is json


def test_the_key_is_tenant_source_and_id() -> None:
    assert read(envelope()).key == ("acme", "/tests", "e1")


@pytest.mark.parametrize("id", [".", ".."])
def test_an_id_that_a_path_cannot_hold_is_refused(id: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(envelope(id=id))
    assert [(error.field, error.message) for error in refused.value.errors] == [("id", "must not be a dot or two")]
