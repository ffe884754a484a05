"""One mutation: a patch in `tests/fault/mutations/` that breaks a mechanism, and the proof that a test sees it.

A patch begins with lines that say what it breaks, which invariant that is, which tests must go red, and words that
their failure shows: an import that fails, or a server that does not start, is no proof.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from shared.settings import PROJECT_ROOT
from tests.servers import base_environment

PATCHES = Path(__file__).parent / "mutations"
_FIELD = re.compile(r"# (?P<name>Breaks|Invariant|Red|Shows): (?P<value>.+)")
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "*.egg-info")


@dataclass(frozen=True, slots=True)
class Mutation:
    """One patch: what it breaks, of which invariant, and which tests (pytest's node ids) see it, with their words."""

    patch: Path
    breaks: str
    invariant: str
    reasons: Mapping[str, str]

    @property
    def name(self) -> str:
        """The patch's name without its ending."""
        return self.patch.stem

    @property
    def tests(self) -> list[str]:
        """The tests' node ids."""
        return list(self.reasons)

    @property
    def digest(self) -> str:
        """Changes with the patch's text."""
        return hashlib.sha256(self.patch.read_bytes()).hexdigest()


def read(patch: Path) -> Mutation:
    """Return what a patch's first lines say; fails where something is missing, or a test has no words of its own."""
    told: dict[str, list[str]] = {"Breaks": [], "Invariant": [], "Red": [], "Shows": []}
    for line in patch.read_text().splitlines():
        if line.startswith("--- "):
            break
        field = _FIELD.fullmatch(line)
        assert field is not None, f"{patch.name}: not one of {', '.join(told)}: {line}"
        told[field["name"]].append(field["value"])
    assert all(told.values()), f"{patch.name}: must say {', '.join(told)}"
    reasons = dict(zip(told["Red"], told["Shows"], strict=True))
    return Mutation(patch, told["Breaks"][0], told["Invariant"][0], reasons)


def mutations() -> list[Mutation]:
    """Return all mutations, by name."""
    return [read(patch) for patch in sorted(PATCHES.glob("*.patch"))]


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the checkout as it is now, without what was built in it; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="carillon-mutation-"))
    try:
        yield shutil.copytree(PROJECT_ROOT, folder / "carillon", ignore=_LEFT_OUT)
    finally:
        shutil.rmtree(folder)


def environment(copy: Path) -> dict[str, str]:
    """Return what a process in the copy inherits: this environment's packages, and of the product the copy's code.

    What `PYTHONPATH` names is found before the checkout that is installed in place.
    """
    path = os.pathsep.join([str(copy), str(copy / "clients" / "python")])
    return {**base_environment(), "PYTHONPATH": path}


def apply(mutation: Mutation, folder: Path, *options: str) -> str:
    """Apply a patch (`--check`: only try); returns why it does not apply, nothing where it does.

    A repository around the folder is none of ours: git would skip the files silently.
    """
    told = subprocess.run(
        ["git", "apply", *options, str(mutation.patch)], cwd=folder, text=True, capture_output=True, check=False,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
    )  # fmt: skip
    return told.stderr if told.returncode else ""


@dataclass(frozen=True, slots=True)
class Case:
    """How one test case ended: `passed`, `failed`, or `error` (it could not be run); and its failure's text."""

    test: str
    outcome: str
    text: str = ""


def _case(element: ElementTree.Element) -> Case:
    test = f"{element.get('classname')}.{element.get('name')}"
    for outcome, tag in (("failed", "failure"), ("error", "error"), ("error", "skipped")):
        found = element.find(tag)
        if found is not None:
            return Case(test, outcome, f"{found.get('message')}\n{found.text}")
    return Case(test, "passed")


class Late(Exception):
    """The tests did not end in time; says what they printed last."""


def run_tests(copy: Path, tests: Sequence[str], within: float) -> list[Case]:
    """Run tests in the copy and return how each case ended. Raises `Late` after that many seconds.

    What they started is gone afterwards, however they ended. No cases: pytest itself failed, see `output.txt`.
    """
    report = copy / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    with (copy / "output.txt").open("wb") as output:
        running = subprocess.Popen(
            command, cwd=copy, env=environment(copy), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            running.wait(within)
        except subprocess.TimeoutExpired:
            raise Late(printed(copy)) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    return [_case(each) for each in ElementTree.parse(report).iter("testcase")] if report.exists() else []


def printed(copy: Path) -> str:
    """Return the end of what the copy's tests printed."""
    return (copy / "output.txt").read_text(errors="replace")[-3_000:]


def cases_of(test: str, cases: Sequence[Case]) -> list[Case]:
    """Return the cases of one node id: several where it has parameters."""
    dotted = test.removesuffix("]").replace(".py::", ".").replace("::", ".").replace("/", ".")
    return [case for case in cases if case.test == dotted or case.test.startswith((f"{dotted}[", f"{dotted}]"))]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a mutation came to: what is wrong (nothing: each of its tests is red for its reason), and what they say."""

    fault: str
    said: str = ""


def judge(mutation: Mutation, cases: Sequence[Case]) -> Proof:
    """Return the proof that these cases are, or what is wrong with it."""
    said: list[str] = []
    for test, shows in mutation.reasons.items():
        mine = cases_of(test, cases)
        red = [case for case in mine if case.outcome == "failed"]
        if not red:
            ends = ", ".join(sorted({case.outcome for case in mine})) or "was not run to its end"
            return Proof(f"{test}: {ends}", " | ".join(said))
        said.append(_said(red[0].text))
        if not any(shows in case.text for case in red):
            return Proof(f"{test}: failed without showing {shows!r}:\n{red[0].text[-3000:]}", " | ".join(said))
    return Proof("", " | ".join(said))


def _said(text: str) -> str:
    """Return the failure's first line, as pytest marks it."""
    return next((line[1:].strip() for line in text.splitlines() if line.startswith("E  ")), "")


def place_of(test: str) -> tuple[str, int]:
    """Return a test's file and where it stands in it; fails where it does not. Some files' last test ends a server."""
    file, _, name = test.partition("::")
    return file, (PROJECT_ROOT / file).read_text().index(f"def {name.rpartition('::')[2].partition('[')[0]}(")
