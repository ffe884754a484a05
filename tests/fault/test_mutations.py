"""The mutations: that they do not rot, and that a copy runs its own code. `make fault-mutations` applies them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.settings import PROJECT_ROOT
from tests.fault import mutate
from tests.fault.mutate import Word, due, not_green, results
from tests.fault.mutation import (
    Case,
    Late,
    Mutation,
    apply,
    cases_of,
    copied,
    environment,
    judge,
    mutations,
    place_of,
    read,
    run_tests,
)
from tests.fault.mutation_table import TABLE, results_in, row_of, table_of

#: Says where the product's packages came from, in whatever way it was started.
PROBE = """
import json
import api.app, shared.cli, tests.servers, workers.app, carillon_client
from shared.settings import PROJECT_ROOT
names = (api.app, shared.cli, tests.servers, workers.app, carillon_client)
print(json.dumps([str(PROJECT_ROOT), *(module.__file__ for module in names)]))
"""
FORKED = """
import os, pathlib, sys
from tests.zygote import Zygote
folder = pathlib.Path(sys.argv[1])
zygote = Zygote(folder)
assert zygote.spawn(["probe"], dict(os.environ), folder / "log").wait(60) == 0
zygote.stop()
print((folder / "log").read_text())
"""


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.name)
def test_each_patch_applies_and_names_tests_that_exist(mutation: Mutation) -> None:
    """A patch that no longer applies is written anew, for the code as it is now."""
    assert apply(mutation, PROJECT_ROOT, "--check") == ""
    assert all(place_of(test)[1] > 0 for test in mutation.tests)


def test_the_table_has_each_mutation_in_its_present_words_and_what_it_came_to() -> None:
    told = TABLE.read_text()
    assert told == table_of(mutations(), results_in(told))
    assert [row for row in map(row_of, mutations()) if row not in told] == []


def test_every_mutation_was_seen_when_it_was_last_run() -> None:
    told = results_in(TABLE.read_text())
    assert [name for name, result in told.items() if not result.startswith("red 20")] == []


def test_a_copy_runs_its_own_code_however_it_is_started(tmp_path: Path) -> None:
    """Pins that a mutation is seen by every process of a test: this environment has the checkout installed in place."""
    with copied() as copy:
        (copy / "probe.py").write_text(PROBE)
        elsewhere = tmp_path / "probe.py"
        elsewhere.write_text(PROBE)
        fork = tmp_path / "fork.py"
        fork.write_text(FORKED)
        # As the tests start modules; as an installed command is started; and forked by the tests' zygote.
        for arguments in (["-m", "probe"], [str(elsewhere)], [str(fork), str(tmp_path)]):
            told = subprocess.run(
                [sys.executable, *arguments],
                cwd=copy,
                env=environment(copy),
                text=True,
                capture_output=True,
                check=True,
            )
            root, *files = json.loads(told.stdout.split("\n")[0])
            assert root == str(copy)
            assert [Path(file).is_relative_to(copy) for file in files] == [True] * 5


FAILING = """
import api.app
def test_red(): assert api.app.__file__ == "", "broken"
def test_green(): pass
def test_error(no_such_fixture): pass
"""


def test_a_test_that_could_not_be_run_is_not_red() -> None:
    with copied() as copy:
        (copy / "tests" / "unit" / "test_three.py").write_text(FAILING)
        (copy / "tests" / "unit" / "test_broken.py").write_text("import no_such_module")
        cases = run_tests(copy, ["tests/unit/test_three.py"], 60)
        not_imported = run_tests(copy, ["tests/unit/test_broken.py::test_red"], 60)
        assert {case.outcome for case in not_imported} == {"error"}
        found = {case.test.rpartition(".")[2]: case for case in cases}
        assert {name: case.outcome for name, case in found.items()} == {
            "test_red": "failed", "test_green": "passed", "test_error": "error"
        }  # fmt: skip
        assert str(copy) in found["test_red"].text


def judged(outcome: str, text: str = "", shows: str = "assert 1 == 2") -> str:
    mutation = Mutation(Path("x.patch"), "it", "I1", {"tests/unit/test_x.py::test_y": shows})
    return judge(mutation, [Case("tests.unit.test_x.test_y[1]", outcome, text)]).fault


def test_only_the_failure_that_was_announced_is_a_proof() -> None:
    assert judged("failed", "assert 1 == 2") == ""
    assert judged("failed", "ImportError").startswith("tests/unit/test_x.py::test_y: failed without showing")
    assert judged("passed") == "tests/unit/test_x.py::test_y: passed"
    assert judged("error", "assert 1 == 2") == "tests/unit/test_x.py::test_y: error"


def test_cases_are_found_by_their_node_id_alone() -> None:
    cases = [Case(f"tests.unit.test_x.{name}", "passed") for name in ("test_a", "test_a[1]", "test_ab", "T.test_a")]
    assert [case.test for case in cases_of("tests/unit/test_x.py::test_a", cases)] == [
        "tests.unit.test_x.test_a", "tests.unit.test_x.test_a[1]"
    ]  # fmt: skip
    assert len(cases_of("tests/unit/test_x.py::T::test_a", cases)) == 1


PATCH = """# Breaks: one is two
# Invariant: I1
# Red: tests/unit/test_one.py::test_one_is_one
# Shows: assert 2 == 1
--- a/one.py
+++ b/one.py
@@ -1,1 +1,1 @@
-ONE = 1
+ONE = 2
"""
ONE = "from one import ONE\ndef test_one_is_one(): assert ONE == 1"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout that the tool works on instead of this one, with one mutation that its test sees."""
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "one.py").write_text("ONE = 1\n")
    (tmp_path / "tests" / "unit" / "test_one.py").write_text(ONE)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    (tmp_path / "one.patch").write_text(PATCH)
    monkeypatch.setattr("tests.fault.mutation.PROJECT_ROOT", tmp_path)
    monkeypatch.setattr("tests.fault.mutation.PATCHES", tmp_path)
    return tmp_path


def words() -> list[tuple[Word, str]]:
    return [(result.word, result.why.partition("\n")[0]) for result in results(mutations(), 1)]


def test_a_mutation_that_its_test_sees_is_red(checkout: Path) -> None:
    assert words() == [(Word.RED, "")]


def test_a_test_that_fails_without_the_mutation_as_well_proves_nothing(checkout: Path) -> None:
    (checkout / "tests" / "unit" / "test_one.py").write_text(ONE.replace("== 1", "== 3"))
    assert words() == [(Word.NOT_GREEN, "tests/unit/test_one.py::test_one_is_one: fails without the mutation as well:")]


def test_a_test_that_does_not_look_leaves_the_mutation_unseen(checkout: Path) -> None:
    (checkout / "tests" / "unit" / "test_one.py").write_text(ONE.replace("ONE == 1", "ONE"))
    assert words() == [(Word.UNSEEN, "tests/unit/test_one.py::test_one_is_one: passed")]


def test_a_test_that_does_not_end_is_late(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "tests" / "unit" / "test_one.py").write_text(f"import threading\n{ONE}; threading.Event().wait()")
    with pytest.raises(Late):
        run_tests(checkout, ["tests/unit/test_one.py"], 5)
    monkeypatch.setattr(mutate, "deadline", lambda tests: 5.0)
    assert list(not_green(mutations(), 1)) == ["tests/unit/test_one.py::test_one_is_one"]


def test_a_patch_that_no_longer_fits_is_stale(checkout: Path) -> None:
    (checkout / "one.py").write_text("ONE  =  1\n")
    assert [word for word, _ in words()] == [Word.STALE]


def test_what_is_due_is_what_this_round_has_not_seen_as_it_is_now(checkout: Path) -> None:
    (one,) = mutations()
    other = checkout / "two.patch"
    other.write_text(PATCH)
    state = {"one": one.digest, "two": "as it was"}
    assert [mutation.name for mutation in due(state, ())] == ["two"]
    assert [mutation.name for mutation in due(state, ["o"])] == ["one"]
    state["two"] = read(other).digest
    assert [mutation.name for mutation in due(state, ())] == ["one", "two"]
    assert state == {}
