"""What endpoints need, as typed aliases: an endpoint's signature says what it uses."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api.auth import Subscriber
from api.publish import Publisher
from api.rates import Rates
from api.sign_in import SignIn
from api.wake import Waker


def _sign_in(request: Request) -> SignIn:
    sign_in: SignIn = request.app.state.sign_in
    return sign_in


def _rates(request: Request) -> Rates:
    rates: Rates = request.app.state.rates
    return rates


async def _subscriber(request: Request) -> Subscriber:
    return await _sign_in(request).subscriber(request.scope)


def _publisher(request: Request) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher


def _waker(request: Request) -> Waker:
    waker: Waker = request.app.state.waker
    return waker


CurrentRates = Annotated[Rates, Depends(_rates)]
CurrentSignIn = Annotated[SignIn, Depends(_sign_in)]
CurrentSubscriber = Annotated[Subscriber, Depends(_subscriber)]
FramePublisher = Annotated[Publisher, Depends(_publisher)]
FanOutWaker = Annotated[Waker, Depends(_waker)]
