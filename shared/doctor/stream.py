"""The public address, as a browser meets it: what the proxies in between make of a stream."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import httpx_sse

from shared.doctor.finding import Finding

STREAM = "/api/notifications/stream"
PROBE = "/api/test/notifications"
#: What browsers offer; a proxy that takes one of them up compresses the stream.
ENCODINGS = "gzip, deflate"
#: The server sends the head and the first frame at once, and a probe's frame before it answers the probe: what takes
#: longer is held back on the way.
AT_ONCE_S = 3.0
CONNECT_S = 5.0
#: A probe takes as long as a sweep at worst (5 s), and its answer some time more.
PROBE_S = 10.0
#: How late a heartbeat may be on its way.
HEARTBEAT_SLACK_S = 5.0
#: Certificates are renewed a month before their end; two weeks before it, nobody did.
CERTIFICATE_DAYS = 14
DAY_S = 86_400

BUFFERING = (
    "switch buffering off for this path: nginx `proxy_buffering off;` (or do not hide X-Accel-Buffering), "
    "Apache `flushpackets=on`, HAProxy no `http-buffer-request`; a CDN may need its own rule"
)


async def checks(url: str, token: str, *, quick: bool) -> AsyncIterator[Finding]:
    """Yield what stands between the server and a browser at `url`. Without `quick`, one heartbeat is waited for."""
    address = urlsplit(url)
    for finding in await asyncio.to_thread(_transport, address.scheme, address.hostname or "", address.port):
        yield finding
    headers = {"authorization": f"Bearer {token}", "accept-encoding": ENCODINGS, "accept": "text/event-stream"}
    timeout = httpx.Timeout(None, connect=CONNECT_S)
    context = ssl.create_default_context()
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, verify=context) as client:
        try:
            async for finding in _followed(client, quick):
                yield finding
        except httpx.HTTPError as problem:
            told = str(problem) or type(problem).__name__
            yield Finding("failure", "stream", f"the stream at {url} broke: {told}", "look into the proxy's log")


def _transport(scheme: str, host: str, port: int | None) -> list[Finding]:
    if scheme != "https":
        local = host in ("localhost", "127.0.0.1", "::1")
        advice = "serve it over https: tokens travel in the open, and browsers speak HTTP/2 over TLS only"
        return [] if local else [Finding("warning", "tls", f"{host} is spoken to without encryption", advice)]
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection((host, port or 443), timeout=CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            spoken, certificate = secure.selected_alpn_protocol(), secure.getpeercert() or {}
    except OSError as problem:
        return [Finding("failure", "tls", f"no secure connection to {host}: {problem}", "mend address or certificate")]
    return [_version(spoken), *_certificate(certificate)]


def _version(spoken: str | None) -> Finding:
    if spoken == "h2":
        return Finding("ok", "http_version", "browsers get HTTP/2: streams of many tabs share one connection")
    return Finding(
        "warning",
        "http_version",
        f"browsers get {spoken or 'HTTP/1.1'}: they open six connections to a host, and each stream holds one for good",
        "let the proxy speak HTTP/2 (nginx `http2 on;`), or share one stream among a browser's tabs",
    )


def _certificate(certificate: dict[str, Any]) -> list[Finding]:
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"])) if "notAfter" in certificate else None
    if ends is None or ends - time.time() > CERTIFICATE_DAYS * DAY_S:
        return []
    days = (ends - time.time()) / DAY_S
    return [Finding("warning", "tls", f"the certificate ends in {days:.0f} days", "see why nothing renewed it")]


async def _followed(client: httpx.AsyncClient, quick: bool) -> AsyncIterator[Finding]:
    request = client.build_request("GET", STREAM)
    try:
        async with asyncio.timeout(CONNECT_S + AT_ONCE_S):
            response = await client.send(request, stream=True)
    except TimeoutError:
        yield Finding("failure", "buffering", "not even the answer's head comes through within seconds", BUFFERING)
        return
    try:
        if response.status_code != httpx.codes.OK:
            yield await _refusal(response)
            return
        for finding in _head(response.headers):
            yield finding
        async for finding in _frames(client, httpx_sse.EventSource(response).aiter_sse(), quick):
            yield finding
    finally:
        await response.aclose()


async def _refusal(response: httpx.Response) -> Finding:
    async with asyncio.timeout(AT_ONCE_S):
        body = await response.aread()
    told = body.decode(errors="replace")[:200]
    advice = "give a token of this installation (--token), and the address that browsers use (--url)"
    return Finding("failure", "stream", f"the stream is refused with {response.status_code}: {told}", advice)


def _head(headers: httpx.Headers) -> list[Finding]:
    found = []
    if "content-encoding" in headers:
        told = f"the proxy compresses the stream ({headers['content-encoding']}): frames may wait for a block to fill"
        advice = "leave text/event-stream out of compression (nginx `gzip_types`), and pass Cache-Control on"
        found.append(Finding("failure", "compression", told, advice))
    if "no-transform" not in headers.get("cache-control", ""):
        told = "the proxy takes Cache-Control: no-transform away, so that what comes after it may compress"
        found.append(Finding("warning", "compression", told, "pass Cache-Control on as the server sends it"))
    return found or [Finding("ok", "compression", "the stream is passed on as it is, uncompressed")]


async def _frames(
    client: httpx.AsyncClient, frames: AsyncIterator[httpx_sse.ServerSentEvent], quick: bool
) -> AsyncIterator[Finding]:
    began = time.monotonic()
    first = await _next(frames, "connected", AT_ONCE_S)
    if first is None:
        yield Finding("failure", "buffering", f"no frame comes through within {AT_ONCE_S:.0f} s", BUFFERING)
        return
    yield Finding("ok", "buffering", f"the first frame came {1000 * (time.monotonic() - began):.0f} ms after the head")
    probed = await _probed(client, frames)
    if probed is not None:
        yield probed
    if not quick and (probed is None or probed.check != "buffering"):
        yield await _idle(frames, float(first.json()["heartbeatSeconds"]))


async def _next(
    frames: AsyncIterator[httpx_sse.ServerSentEvent], event: str, within: float
) -> httpx_sse.ServerSentEvent | None:
    """Return the next frame of a kind; None when it does not come in time, or the stream ends."""
    try:
        async with asyncio.timeout(within):
            async for frame in frames:
                if frame.event == event:
                    return frame
    except (TimeoutError, httpx.HTTPError):
        pass
    return None


async def _probed(client: httpx.AsyncClient, frames: AsyncIterator[httpx_sse.ServerSentEvent]) -> Finding | None:
    """Have a test notification made, and see that it comes through; None where none is made (in production)."""
    advice = "see what is said of workers and servers above"
    try:
        answer = await client.post(PROBE, timeout=PROBE_S)
    except httpx.HTTPError as problem:
        return Finding("warning", "push", f"the test is not answered ({type(problem).__name__})", advice)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    if answer.status_code != httpx.codes.OK or not answer.json()["pushConfirmed"]:
        return Finding("failure", "push", "a test notification was not pushed", advice)
    if await _next(frames, "notification", AT_ONCE_S) is None:
        return Finding("failure", "buffering", f"a frame is held back for more than {AT_ONCE_S:.0f} s", BUFFERING)
    return Finding("ok", "push", f"a test notification came through ({answer.json()['milliseconds']:.0f} ms)")


async def _idle(frames: AsyncIterator[httpx_sse.ServerSentEvent], heartbeat: float) -> Finding:
    began = time.monotonic()
    if await _next(frames, "heartbeat", heartbeat + HEARTBEAT_SLACK_S) is not None:
        return Finding("ok", "idle_timeout", f"a silent stream lives until its heartbeat ({heartbeat:g} s)")
    waited = time.monotonic() - began
    if waited >= heartbeat:
        return Finding("failure", "buffering", f"no heartbeat comes through within {waited:.0f} s", BUFFERING)
    return Finding(
        "failure",
        "idle_timeout",
        f"a silent stream is cut after {waited:.0f} s, before its heartbeat ({heartbeat:g} s)",
        f"raise the proxy's idle timeout beyond {heartbeat:g} s (nginx `proxy_read_timeout`, HAProxy `timeout server` "
        "and `timeout tunnel`, a load balancer's own), or lower CARILLON_HEARTBEAT_SECONDS",
    )
