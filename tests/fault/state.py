"""What an interrupted run has done already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_state(file: Path) -> dict[str, Any]:
    """Return what earlier calls did, by name."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def keep(file: Path, state: Mapping[str, Any]) -> None:
    """Write the state whole, or leave the one before."""
    file.parent.mkdir(exist_ok=True)
    fresh = file.with_suffix(".part")
    fresh.write_text(json.dumps(state, indent=1))
    fresh.replace(file)
