"""What a measurement writes into a document stands between its own marks and nowhere else."""

from __future__ import annotations

import pytest

from bench import report

DOCUMENT = "# Title\n\n<!-- a -->\nold\n<!-- /a -->\n\nwords\n<!-- b -->\n<!-- /b -->\n"


def test_a_part_replaces_what_stood_between_its_marks_and_leaves_the_rest() -> None:
    told = report.put_between(DOCUMENT, "a", "new\nlines")
    assert told == DOCUMENT.replace("old", "new\nlines")
    assert report.between(told, "a") == "new\nlines"
    assert report.put_between(told, "a", "old") == DOCUMENT


def test_an_empty_part_is_filled_and_read_back() -> None:
    assert report.between(DOCUMENT, "b") == ""
    assert report.between(report.put_between(DOCUMENT, "b", "x"), "b") == "x"


def test_a_document_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="substring"):
        report.put_between(DOCUMENT, "c", "x")


def test_a_table_has_a_row_for_each_row_and_a_cell_for_each_cell() -> None:
    assert report.table(("a", "b"), [(1, 2.5), ("x", "")]) == "| a | b |\n| --- | --- |\n| 1 | 2.5 |\n| x |  |"


def test_the_machine_is_told_with_its_versions() -> None:
    told = report.machine()
    assert all(told.values())
    assert all(name in told["packages"] for name in report.DECISIVE)
