"""docs/guarantees.md names what it rests on: tests, faults and mutations that exist, and every mutation there is."""

from __future__ import annotations

import re

import pytest

from shared.settings import PROJECT_ROOT
from tests.fault.faults import FAULTS
from tests.fault.mutation import mutations, place_of

TOLD = (PROJECT_ROOT / "docs" / "guarantees.md").read_text()
TESTS = re.findall(r"`((?:unit|integration|law|fault)/test_\w+\.py(?:::\w+)?)`", TOLD)


def listed(kind: str, mark: str) -> set[str]:
    """Return what stands between these marks in the lists that begin with `Faults:` or `Mutations:`."""
    parts = re.findall(rf"^{kind}: (.*?)(?=^Mutations:|\n\n)", TOLD, re.DOTALL | re.MULTILINE)
    return {re.sub(r"\s+", " ", name) for part in parts for name in re.findall(rf"{mark}([^{mark}]+){mark}", part)}


@pytest.mark.parametrize("name", TESTS)
def test_each_test_that_is_named_exists(name: str) -> None:
    file, _, test = name.partition("::")
    assert place_of(f"tests/{name}")[1] > 0 if test else (PROJECT_ROOT / "tests" / file).is_file()


def test_each_fault_that_is_named_is_injected() -> None:
    named = listed("Faults", r"\*")
    assert len(named) > 20
    assert named - {fault.name for fault in FAULTS} == set()


def test_every_mutation_belongs_to_a_guarantee() -> None:
    assert listed("Mutations", "`") == {mutation.name for mutation in mutations()}
