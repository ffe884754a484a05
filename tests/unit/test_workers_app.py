from __future__ import annotations

import pytest

from shared import cursor
from shared.errors import InvalidInput, StartError
from shared.logs import place_of
from shared.settings import Settings
from workers import app as workers_app
from workers.app import configuration


def test_a_failure_is_placed_in_our_innermost_frame_and_its_words_are_not_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        cursor.require_cursor("no cursor", "since")
    place = place_of(caught.value)
    assert place.startswith("shared/cursor.py:")
    assert "no cursor" not in place


def test_a_failure_outside_our_code_has_no_place() -> None:
    with pytest.raises(ValueError, match="invalid") as caught:
        int("x")
    assert place_of(caught.value) == ""


def test_without_a_broker_the_worker_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_app, "settings", lambda: Settings(broker_url=None, redis_url=None))
    with pytest.raises(StartError, match="CARILLON_BROKER_URL"):
        configuration()


@pytest.mark.usefixtures("configured")
def test_only_json_goes_in_and_out_and_a_task_ends_before_its_message_comes_again() -> None:
    chosen = configuration()
    assert (chosen["accept_content"], chosen["result_accept_content"]) == (["json"], ["json"])
    assert chosen["task_soft_time_limit"] < chosen["task_time_limit"]
    assert chosen["task_time_limit"] < chosen["broker_transport_options"]["visibility_timeout"]
