"""TypeScript's declarations of the catalog: current, and of every kind of field."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from shared.catalog import load_catalog
from shared.catalog.typescript import declarations
from shared.cli.catalog import catalog_app
from shared.settings import PROJECT_ROOT

DECLARED = PROJECT_ROOT / "web" / "types" / "catalog.d.ts"

TYPES = """
description = "Ships."

[[type]]
name = "ship.arrived"
description = "A ship came in */ at last."
category = "harbour"
retired = true
metadata = ["pier_number", "cargo"]
example = { owner_id = "ada", pier_number = 4, late = false, fee = 1, flag = "green", told = { everyone = true } }

[type.data]
owner_id = "id"
pier_number = "count"
"cargo?" = "ids"
late = "flag"
fee = "amount"
flag = { enum = ["green", 1] }
told = "posted_audience"
"log?" = { type = "object", properties = { "a-b" = { type = "null" } }, required = ["a-b"] }
"rest?" = { type = "object" }
"any?" = {}

[[type.audience]]
recipient = "owner_id"
title = "Ship"
message = "Ship"

[[type]]
name = "ship.sighted"
description = "Counted."
category = "harbour"
shown = false
data = { owner_id = "id" }
example = { owner_id = "ada" }
"""


def test_the_declarations_in_the_package_are_those_of_the_catalog() -> None:
    printed = CliRunner().invoke(catalog_app, ["types"], catch_exceptions=False)
    hint = "run `carillon catalog types > web/types/catalog.d.ts`"
    assert printed.stdout == DECLARED.read_text(), hint


def test_each_kind_of_field_has_its_type(tmp_path: Path) -> None:
    (tmp_path / "ships.toml").write_text(TYPES)
    told = declarations(load_catalog(tmp_path))
    assert (
        "  /** A ship came in * / at last. @deprecated It is retired. */\n"
        '  "ship.arrived": { actor_id?: string; actor_name?: string; owner_id: string; pier_number: number; '
        'cargo?: Array<string>; late: boolean; fee: number | string; flag: "green" | 1; '
        "told: { everyone: true } | { role: string } | { topic: string } | { tenant: string }; "
        'log?: { "a-b": null }; rest?: Record<string, unknown>; any?: unknown };\n'
    ) in told
    assert (
        '  SHIP_ARRIVED: { category: "harbour"; metadata: { pierNumber: number; cargo?: Array<string> } };\n}\n' in told
    )
    assert '"ship.sighted": {' in told
    assert "SHIP_SIGHTED" not in told
