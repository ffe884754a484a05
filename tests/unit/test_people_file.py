"""Files of recipients: rows, what is wrong with them, and where the next one begins."""

from __future__ import annotations

import io

import pytest

from shared.cli.console import CommandFailed
from shared.cli.people_file import MAX_LINE, Place, Row, read_rows

HEADING = b"id,roles,name\n"


def rows(content: bytes, *, is_csv: bool = True, start: Place | None = None) -> list[Row]:
    return list(read_rows(io.BytesIO(content), is_csv=is_csv, start=start or Place()))


def told(content: bytes, *, is_csv: bool = True) -> list[tuple[int, str]]:
    """Return each row's line with its id, or with what is wrong with it."""
    found = rows(content, is_csv=is_csv)
    return [(row.line, str(row.value["id"]) if row.value else f"{row.field} {row.fault}".strip()) for row in found]


def test_known_columns_are_fields_and_others_attributes() -> None:
    (row,) = rows(b'\xef\xbb\xbfid , roles,name\n ada,student; agent,"Love, Ada"\n')
    assert row.value == {"id": "ada", "roles": ["student", "agent"], "attributes": {"name": "Love, Ada"}}
    assert (row.line, row.fault) == (2, None)


def test_an_open_quote_takes_one_row_with_it_and_not_the_rest_of_the_file() -> None:
    many = b"".join(b"p%d,student,Name\n" % number for number in range(20_000))
    found = told(HEADING + b'ada,"student,Ada\n' + many)
    assert found[0][0] == 2
    assert found[0][1].startswith("is not valid CSV")
    assert found[1:] == [(number + 3, f"p{number}") for number in range(20_000)]


def test_an_open_quote_at_the_end_of_the_file_takes_one_row_as_well() -> None:
    assert told(HEADING + b'ada,"student\nbob,,\n') == [(2, "is not valid CSV (unexpected end of data)"), (3, "bob")]


def test_a_field_may_span_lines_and_the_rows_after_it_are_counted_right() -> None:
    assert told(HEADING + b'ada,,"Ada\nLovelace"\n\nbob,,\n') == [(2, "ada"), (5, "bob")]


def test_what_is_no_utf8_is_told_with_its_column_and_what_is_too_long_or_too_wide_without() -> None:
    long = b"x" * (2 * MAX_LINE)
    assert told(HEADING + b"ada,,\xff\n" + long + b"\nbob,,,,\ncleo,,\n") == [
        (2, "name is not UTF-8"),
        (3, f"is longer than {MAX_LINE:,} bytes"),
        (4, "has more fields than the heading"),
        (5, "cleo"),
    ]


@pytest.mark.parametrize("is_csv", [True, False])
def test_reading_goes_on_at_the_end_of_any_row(is_csv: bool) -> None:
    csv = HEADING + 'ada,,"Ä\nL"\nbob,,\n\ncl,"x"y,\ndee,,\n'.encode()
    ndjson = b'{"id":"a"}\n\n[1]\n{"id":"b"}\r\n{"id"\n{"id":"c"}'
    content = csv if is_csv else ndjson
    whole = rows(content, is_csv=is_csv)
    assert len(whole) == (4 if is_csv else 5)
    for place, row in enumerate(whole):
        assert rows(content, is_csv=is_csv, start=row.end) == whole[place + 1 :]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "needs a heading"),
        (b"name,roles\n", "needs a heading"),
        (b"id,name,name\n", "names the column name twice"),
    ],
)
def test_a_wrong_heading_is_told_at_once(content: bytes, sentence: str) -> None:
    with pytest.raises(CommandFailed) as wrong:
        rows(content)
    assert sentence in wrong.value.detail
