"""Where a measurement leaves its figures: JSON in `bench/results/`, and its part of a document between two marks."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shared.settings import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "bench" / "results"
PERFORMANCE = PROJECT_ROOT / "docs" / "performance.md"
IMAGES = PROJECT_ROOT / "docs" / "images"
#: Packages whose versions decide what is measured.
DECISIVE = ("uvicorn", "uvloop", "hiredis", "redis", "psycopg", "celery", "orjson")


def machine() -> dict[str, str]:
    """Return what a figure depends on: processor, cores, system, Python, and the decisive packages."""
    packages = " ".join(f"{name} {version(name)}" for name in DECISIVE)
    system = f"{platform.system()} {platform.release()}"
    return {"processor": _processor(), "cores": str(os.cpu_count()), "system": system,
            "python": platform.python_version(), "packages": packages}  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table, without a newline at its end."""
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def save(name: str, figures: dict[str, Any]) -> Path:
    """Write the figures of one measurement as `bench/results/<name>.json`, and return that path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    return path


def load(name: str) -> dict[str, Any]:
    """Return the figures that `save` wrote; none where that measurement was never made."""
    path = RESULTS / f"{name}.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return figures


def between(text: str, mark: str) -> str:
    """Return what stands between `<!-- mark -->` and `<!-- /mark -->`. Raises `ValueError` where they are missing."""
    start, end = _place(text, mark)
    return text[start:end].strip("\n")


def put_between(text: str, mark: str, part: str) -> str:
    """Return a document with `part` between its marks; everything else stays. Raises `ValueError` as `between`."""
    start, end = _place(text, mark)
    return f"{text[:start]}\n{part}\n{text[end:]}"


def _place(text: str, mark: str) -> tuple[int, int]:
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    return text.index(begin) + len(begin), text.index(end)


def write(mark: str, part: str, path: Path = PERFORMANCE) -> None:
    """Put `part` between its marks in a document: `docs/performance.md` unless told otherwise."""
    path.write_text(put_between(path.read_text(), mark, part))
