"""What a request waits for beside its work: nothing that FastAPI would run in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from api import directory, events, explain, health, inbox, metrics, ops, probe, revocations, session, webhooks

ROUTERS = (directory, events, explain, health, inbox, metrics, ops, probe, revocations, session, webhooks)


def _all(dependant: Any) -> Iterator[Any]:
    yield dependant.call
    for each in dependant.dependencies:
        yield from _all(each)


def _is_coroutine(call: Any) -> bool:
    return iscoroutinefunction(call) or iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


@pytest.mark.parametrize("part", ROUTERS, ids=lambda part: part.__name__)
def test_no_call_waits_for_a_thread_because_of_a_dependency_that_is_a_plain_function(part: Any) -> None:
    router: APIRouter = part.router
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    plain = [call for route in routes for call in _all(route.dependant) if not _is_coroutine(call)]

    assert routes
    assert plain == []
