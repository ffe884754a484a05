"""The worker's application with a fault: rendering the title "poison" kills the process, as a bug in C code would."""

from __future__ import annotations

import os
import signal
from typing import Any

from shared import templates
from workers.app import app

__all__ = ["app"]

_render = templates.render


def _deadly(event_type: Any, audience: Any, data: Any, **rest: Any) -> templates.Rendered:
    if data.get("badge_title") == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return _render(event_type, audience, data, **rest)


templates.render = _deadly
