"""What endpoints need, as typed aliases: an endpoint's signature says what it uses.

All are coroutines: FastAPI runs a plain function in a thread, and a request waits for two switches of threads.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api.acceptance import Acceptance
from api.auth import Subscriber
from api.publish import Publisher
from api.rates import Rates
from api.sign_in import SignIn
from api.wake import Waker


async def _sign_in(request: Request) -> SignIn:
    sign_in: SignIn = request.app.state.sign_in
    return sign_in


async def _rates(request: Request) -> Rates:
    rates: Rates = request.app.state.rates
    return rates


async def _subscriber(request: Request) -> Subscriber:
    return await (await _sign_in(request)).subscriber(request.scope)


async def _publisher(request: Request) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher


async def _waker(request: Request) -> Waker:
    waker: Waker = request.app.state.waker
    return waker


async def _acceptance(request: Request) -> Acceptance:
    acceptance: Acceptance = request.app.state.acceptance
    return acceptance


CurrentRates = Annotated[Rates, Depends(_rates)]
CurrentSignIn = Annotated[SignIn, Depends(_sign_in)]
CurrentSubscriber = Annotated[Subscriber, Depends(_subscriber)]
FramePublisher = Annotated[Publisher, Depends(_publisher)]
TheAcceptance = Annotated[Acceptance, Depends(_acceptance)]
FanOutWaker = Annotated[Waker, Depends(_waker)]
