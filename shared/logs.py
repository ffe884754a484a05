"""Structured logs: constant dotted event names with ids as fields; no payload text and no token ever.

CR, LF and terminal escapes in a value are escaped, so that one event is one line.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from shared.settings import PROJECT_ROOT, settings

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _escape(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str) and name != "exception":
            event[name] = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", value)
    return event


def configure_logs(part: str) -> None:
    """Send this process's log to standard error: lines for people, or JSON where `CARILLON_LOG_FORMAT=json`."""
    chosen = settings()
    last: Any = structlog.processors.JSONRenderer()
    if chosen.log_format == "console":
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _escape,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, chosen.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(part=part)


def log() -> Any:
    """Return the logger."""
    return structlog.get_logger()


def place_of(error: BaseException) -> str:
    """Return `file:line` of the innermost frame of ours that raised; empty where there is none."""
    frames = [(trace.filename, trace.lineno) for trace in traceback.extract_tb(error.__traceback__)]
    ours = [f"{Path(name).relative_to(PROJECT_ROOT)}:{line}" for name, line in frames if _is_ours(name)]
    return ours[-1] if ours else ""


def _is_ours(file: str) -> bool:
    return file.startswith(tuple(f"{PROJECT_ROOT}/{part}/" for part in ("api", "shared", "workers")))
