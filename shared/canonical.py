"""The RFC 8785 form of a JSON value: the same text for the same content, however it was written.

RFC 8785 writes numbers as doubles and so cannot tell 9007199254740993 from its neighbours. Here an integer literal of
64 bits is written with its exact digits. Up to 2**53 that is RFC 8785's own form; and a double that `jsonb` hands back
as a long integer keeps its text, since both write the shortest digits and pad with zeros.
"""

from __future__ import annotations

from typing import Any

import orjson
import rfc8785


def canonical(value: Any) -> bytes:
    """Return the canonical form of what `strict_json` let in; raises TypeError for anything but JSON."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        return b"{%s}" % b",".join(orjson.dumps(name) + b":" + canonical(item) for name, item in members)
    if isinstance(value, list):
        return b"[%s]" % b",".join(map(canonical, value))
    return rfc8785.dumps(value) if isinstance(value, float) else orjson.dumps(value)
