"""What endpoints need, as typed aliases: an endpoint's signature says what it uses."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api.auth import Subscriber, bearer_of, subscriber_of
from api.publish import Publisher
from api.wake import Waker


def _subscriber(request: Request) -> Subscriber:
    return subscriber_of(bearer_of(request.headers.get("authorization")))


def _publisher(request: Request) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher


def _waker(request: Request) -> Waker:
    waker: Waker = request.app.state.waker
    return waker


CurrentSubscriber = Annotated[Subscriber, Depends(_subscriber)]
FramePublisher = Annotated[Publisher, Depends(_publisher)]
FanOutWaker = Annotated[Waker, Depends(_waker)]
