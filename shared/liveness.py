"""When a part of the product counts as silent or late."""

from __future__ import annotations

LANES = ("urgent", "fan_out", "maintenance")
#: A lane beats every 5 s; silent for longer than this, nobody works there.
SILENCE_SECONDS = 20.0
#: Events are fanned out within a second; beyond this, something holds them up.
QUEUE_AGE_SECONDS = 10.0
