"""`python -m tests.hasty_beat …`: what `python -m celery …` is, with each periodic job due every second."""

from __future__ import annotations

from celery.__main__ import main

import beat_schedule

EVERY_S = 1.0

if __name__ == "__main__":
    for job in beat_schedule.SCHEDULE.values():
        job["schedule"] = EVERY_S
    main()
