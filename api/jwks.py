"""The issuer's key set (RFC 7517): fetched from one fixed address, beside the requests, and kept when that is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from api import remote
from api.tasks import apart, end
from api.token_keys import algorithms_of
from shared.errors import Unauthenticated, Unavailable
from shared.logs import log

#: Between two fetches while all is well; issuers announce a new key long before they sign with it.
REFRESH_S = 600.0
#: After a fetch that failed.
RETRY_S = 30.0
#: Tokens with a key's name that is not known have the set fetched anew, at most this often in all.
UNKNOWN_S = 60.0
#: Issuers have two or three; each is parsed.
MAX_KEYS = 50


class KeySet:
    """The keys of one issuer, by their names. Between `start` and `stop` they are refreshed every ten minutes.

    A fetch that fails leaves the last good set in place, for however long. Before the first good one every token is
    answered by `Unavailable`.
    """

    def __init__(self, url: str, algorithm: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self.algorithm, self._clock = url, algorithm, clock
        self._keys: dict[str | None, Any] = {}
        self._http = remote.client(most_connections=1)
        self._task: asyncio.Task[None] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._tried_at = float("-inf")
        self._good = False

    def start(self) -> None:
        """Begin to fetch."""
        self._task = asyncio.create_task(self._refresh())

    async def stop(self) -> None:
        """End; what is under way is given up."""
        await end(self._task, self._fetching)
        await self._http.aclose()

    async def find(self, name: Any) -> Any:
        """Return the key that a token's `kid` names; the only one there is for a token without.

        An unknown name waits for a fetch that is under way, or begins one where the last is a minute old. Raises
        `Unauthenticated` for a key that the issuer does not have, `Unavailable` where that could not be learned.
        """
        key = self._pick(name)
        if key is None and (self._is_fetching() or self._clock() - self._tried_at >= UNKNOWN_S):
            await asyncio.wait({self._fetch_soon()}, timeout=remote.DEADLINE_S)
            key = self._pick(name)
        if key is not None:
            return key
        if not self._good:
            raise Unavailable("The issuer's keys cannot be read at this moment.", retry_after=int(RETRY_S))
        raise Unauthenticated("The token is not valid.")

    def _pick(self, name: Any) -> Any:
        if name is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(name) if isinstance(name, str) else None

    def _is_fetching(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    def _fetch_soon(self) -> asyncio.Task[None]:
        """Return the fetch that is under way, or a new one: no client's going away ends it."""
        if self._fetching is None or self._fetching.done():
            self._tried_at = self._clock()
            self._fetching = apart(self._fetch())
        return self._fetching

    async def _refresh(self) -> None:
        while True:
            await asyncio.wait({self._fetch_soon()})
            await asyncio.sleep(REFRESH_S if self._good else RETRY_S)

    async def _fetch(self) -> None:
        try:
            self._keys = usable(
                await remote.ask(self._http, self._http.build_request("GET", self._url)), self.algorithm
            )
        except remote.RemoteError as error:
            self._good = False
            log().warning("jwks.failed", reason=str(error), kept=len(self._keys))
            return
        self._good = True
        log().info("jwks.fetched", keys=len(self._keys))


def usable(document: Any, algorithm: str) -> dict[str | None, Any]:
    """Return the set's public keys that may verify with `algorithm`, by name; raises `RemoteError` where none may."""
    told = document.get("keys") if isinstance(document, dict) else None
    found: dict[str | None, Any] = {}
    for entry in told[:MAX_KEYS] if isinstance(told, list) else ():
        key = _key(entry, algorithm) if isinstance(entry, dict) else None
        if key is not None:
            found[entry.get("kid")] = key
    if not found:
        raise remote.RemoteError("no key that can be used")
    return found


def _key(entry: Mapping[str, Any], algorithm: str) -> Any:
    """Return one public key, None for a private or symmetric one, another use, another algorithm, a weak one."""
    if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm or "d" in entry or "k" in entry:
        return None
    if not isinstance(entry.get("kid"), (str, type(None))):
        return None
    try:
        key = jwt.PyJWK(dict(entry), algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return key if algorithm in algorithms_of(key) else None


def key_set(url: str | None, algorithm: str | None) -> KeySet | None:
    """Return the key set that the settings name, None where they name none."""
    return None if url is None else KeySet(url, algorithm or "RS256")
