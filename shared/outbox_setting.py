"""What `CARILLON_OUTBOXES` says of each producer's database: where it is, and for whom it may post."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, SecretStr
from pydantic.dataclasses import dataclass

from shared.settings_checks import TENANT, decoded_object

EVERY_TENANT = "*"
EXAMPLE = '{"registrar": {"url": "postgresql://user:password@host:5432/name", "tenants": ["uni-berlin"]}}'
#: It stands in logs and on the command line.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")
#: PostgreSQL cuts longer names.
_MAX_SCHEMA = 63


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Outbox:
    """One producer's outbox: its database, the tenants that it may post for (`*`: all), the schema of its table."""

    url: SecretStr
    tenants: tuple[str, ...]
    schema: str = "public"


def decoded(value: str) -> Any:
    """Return what a JSON object of outboxes says; raises ValueError for anything else."""
    return decoded_object(value, lambda each: isinstance(each, dict), f"such as {EXAMPLE}")


def require_outboxes(outboxes: Mapping[str, Outbox], url_form: re.Pattern[str]) -> None:
    """Raise ValueError for a name, a URL, tenants or a schema that cannot be, and for one table named twice."""
    seen: set[tuple[str, str]] = set()
    for name, outbox in outboxes.items():
        if not _NAME.fullmatch(name):
            raise ValueError("must name each outbox in lower-case letters, digits, - and _, 50 at most")
        if not url_form.fullmatch(outbox.url.get_secret_value()):
            raise ValueError(f"must give {name} a URL such as postgresql://user:password@host:5432/name")
        if not outbox.tenants or not all(each == EVERY_TENANT or TENANT.fullmatch(each) for each in outbox.tenants):
            raise ValueError(f"must name the tenants that {name} may post for, or * for all")
        if not 0 < len(outbox.schema) <= _MAX_SCHEMA or not outbox.schema.isprintable():
            raise ValueError(f"must give {name} a schema such as public")
        table = outbox.url.get_secret_value(), outbox.schema
        if table in seen:
            raise ValueError(f"must name each outbox once: {name} is one of the others")
        seen.add(table)
