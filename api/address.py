"""From where a request comes: the connection's peer, or what proxies of ours say of it. Never what a client says."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

from shared.settings import settings

Address = IPv4Address | IPv6Address
#: One line of a household or a phone; single addresses of it are changed at will.
_IPV6_PREFIX = 64
#: A connection without an address (a UNIX socket), or one that cannot be read.
UNKNOWN = "unknown"


def _parsed(text: str) -> Address | None:
    try:
        found = ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _is_ours(address: Address, proxies: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    return any(address in network for network in proxies)


def _peer(scope: Scope) -> Address | None:
    """Return the connection's other end.

    uvicorn, unless told `--no-proxy-headers`, puts an address from `X-Forwarded-For` in its place if the peer is this
    machine, and 0 for its port, which no connection has: what it put there is not believed.
    """
    host, port = scope.get("client") or (None, None)
    return _parsed("127.0.0.1" if port == 0 else host) if host else None


def address_of(scope: Scope) -> str:
    """Return the address that a request is counted by; an IPv6 one as its /64.

    Behind `CARILLON_TRUSTED_PROXIES` it is the last address in `X-Forwarded-For` that is none of theirs: whatever
    stands before it is what the client made up.
    """
    proxies = settings().trusted_proxies
    address = _peer(scope)
    if address is None:
        return UNKNOWN
    told = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",") if proxies else []
    while told and _is_ours(address, proxies):
        before = _parsed(told.pop())
        if before is None:
            break
        address = before
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
    return str(address)
