"""What npm runs over web/: types, the core's states, the budgets of sizes. It installs what the lock file names."""

from __future__ import annotations

import filecmp
import json
import re
from pathlib import Path

import pytest

from shared.settings import PROJECT_ROOT
from tests.npm import WEB, install, run

DOCUMENT = PROJECT_ROOT / "docs" / "web-client.md"


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    install()


def test_types_are_right() -> None:
    run("npx", "tsc", "--project", "tsconfig.json")


def test_the_type_declarations_are_those_of_the_source(tmp_path: Path) -> None:
    run("npx", "tsc", "--project", "tsconfig.types.json", "--outDir", str(tmp_path))
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.d.ts")}
    # The catalog's are made of the event types (tests/unit/test_catalog_typescript.py).
    kept = {path.relative_to(WEB / "types") for path in (WEB / "types").rglob("*.d.ts")} - {Path("catalog.d.ts")}
    hint = "run `npm run types` in web/"
    assert made == kept, hint
    _, different, failed = filecmp.cmpfiles(tmp_path, WEB / "types", [str(path) for path in made], shallow=False)
    assert (different, failed) == ([], []), hint


def test_an_application_in_typescript_is_told_what_it_does_wrong() -> None:
    run("npx", "tsc", "--project", "tests/types/tsconfig.json")


def test_the_snippet_in_typescript_is_right_where_the_package_is_installed(tmp_path: Path) -> None:
    found = re.search(r"<!-- snippet: typescript -->\n```ts\n(.*?)\n```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "app.mts").write_text(found[1])
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "carillon-web").symlink_to(WEB)
    options = ["--ignoreConfig", "--strict", "--noEmit", "--module", "nodenext", "--target", "es2023", "--types", ""]
    run("npx", "tsc", *options, str(tmp_path / "app.mts"))


def test_the_core_does_what_its_table_of_states_says_and_the_sizes_hold() -> None:
    told = run("npx", "vitest", "run")
    print(told)


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text())["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in packages.items() if name)


def test_the_package_is_what_its_exports_name() -> None:
    package = json.loads((WEB / "package.json").read_text())
    for name, export in package["exports"].items():
        for path in export.values() if isinstance(export, dict) else [export]:
            # What is minified is made when the package is packed (tests/browser/test_embedding.py runs it).
            assert name == "./dist/*" or list(WEB.glob(path)), path
