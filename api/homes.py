"""Where a subscriber's inbox is: asked once for each, and only of tenants with a database of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Subscriber
from shared import db, homes
from shared.databases import SHARED, database_of, placement
from shared.errors import Unavailable
from shared.plans import arun_plan

#: A database that is stopped, not dead, answers nothing: it counts as away after this.
READ_TIMEOUT_S = 10.0


async def home_of(tenant: str, recipient: str) -> str:
    """Return the database of a recipient's inbox. A home is settled for good, so it is remembered.

    Of one whom nobody registered it is the tenant's own, and asked again the next time. Raises `Unavailable` where that
    one is away or stopped.
    """
    if database_of(tenant) == SHARED:
        return SHARED
    known = placement().inboxes
    remembered = known.get((tenant, recipient))
    if remembered is not None:
        return remembered
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            home, is_settled = await arun_plan(homes.home_of(tenant, recipient))
    except TimeoutError:
        raise Unavailable("The database does not answer; try again.", retry_after=1) from None
    if is_settled:
        known.set((tenant, recipient), home)
    return home


@asynccontextmanager
async def inbox_transaction(who: Subscriber) -> AsyncIterator[AsyncConnection]:
    """Run a block in one transaction where the subscriber's inbox is, as `db.async_transaction` for the tenant."""
    home = await home_of(who.tenant, who.recipient)
    async with db.async_transaction(who.tenant, database=home) as connection:
        yield connection
