"""The supervisor's arithmetic and reading of output."""

from __future__ import annotations

import asyncio

import pytest

from shared.processes import MAX_LINE_BYTES, Deaths, back_off_seconds, lines_of, told_exit


def test_the_wait_doubles_from_a_second_to_half_a_minute() -> None:
    assert [back_off_seconds(failures, 0) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_jitter_moves_the_wait_by_a_quarter_and_never_beyond_half_a_minute() -> None:
    assert (back_off_seconds(3, -1), back_off_seconds(3, 1)) == (3, 5)
    assert back_off_seconds(6, 1) == 30


def test_the_fifth_death_within_a_minute_is_the_last() -> None:
    deaths = Deaths()
    assert [deaths.add(now, lived=0) for now in (0, 15, 30, 45, 60)] == [True, True, True, True, False]


def test_five_deaths_in_more_than_a_minute_are_worth_another_try() -> None:
    deaths = Deaths()
    assert [deaths.add(now, lived=0) for now in (0, 15, 30, 45, 60.1)] == [True] * 5


def test_a_minute_of_life_starts_the_row_anew() -> None:
    deaths = Deaths()
    deaths.add(0, lived=1)
    deaths.add(10, lived=1)
    assert deaths.in_a_row == 2
    deaths.add(80, lived=60)
    assert deaths.in_a_row == 1


@pytest.mark.parametrize(("code", "words"), [(0, "ended with exit code 0"), (-9, "was killed by SIGKILL")])
def test_an_ending_is_told_in_words(code: int, words: str) -> None:
    assert told_exit(code) == words


async def _lines(*chunks: bytes) -> list[str]:
    stream = asyncio.StreamReader()
    for chunk in chunks:
        stream.feed_data(chunk)
    stream.feed_eof()
    return [line async for line in lines_of(stream)]


async def test_lines_come_whole_whatever_their_ends_and_encoding() -> None:
    assert await _lines(b"one\r\ntwo\n\n\xff") == ["one", "two", "", "\N{REPLACEMENT CHARACTER}"]


async def test_an_endless_line_comes_in_pieces() -> None:
    pieces = await _lines(b"x" * (3 * MAX_LINE_BYTES), b"\nend\n")
    assert pieces[-1] == "end"
    assert "".join(pieces[:-1]) == "x" * (3 * MAX_LINE_BYTES)
    assert max(map(len, pieces)) <= 2 * MAX_LINE_BYTES
