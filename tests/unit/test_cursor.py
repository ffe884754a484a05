import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cursor import MAX_NUMBER, Cursor, parse_cursor, require_cursor
from shared.errors import InvalidInput

numbers = st.integers(0, MAX_NUMBER)


@given(numbers, numbers)
def test_a_cursor_survives_the_round_trip(epoch: int, seq: int) -> None:
    assert parse_cursor(str(Cursor(epoch, seq))) == Cursor(epoch, seq)


@given(st.text(max_size=50))
def test_any_text_is_a_cursor_in_its_one_spelling_or_none(value: str) -> None:
    cursor = parse_cursor(value)
    assert cursor is None or str(cursor) == value


@pytest.mark.parametrize(
    "value",
    ["", "1", "1-", "-1", "1-2-3", "01-2", "1-02", "+1-2", " 1-2", "1-2\n", "1-٢", f"1-{MAX_NUMBER + 1}", "a-b"],
)
def test_a_foreign_value_is_no_cursor(value: str) -> None:
    assert parse_cursor(value) is None


def test_a_required_cursor_names_its_field() -> None:
    with pytest.raises(InvalidInput) as raised:
        require_cursor("nonsense", "since")
    assert [error.field for error in raised.value.errors] == ["since"]
