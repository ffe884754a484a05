"""The one check of action URLs: what a notification may link to.

Accepted URLs come back in the form that a browser's `new URL(…)` gives them, so that what is stored, compared with the
allowed hosts and followed is the same thing. What browsers repair silently (`https:/host`, spaces around, backslashes)
is refused instead: a repair is where two parsers disagree.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Collection

import idna

from shared.errors import FieldError, InvalidInput
from shared.settings import settings

#: Characters, before and after normalising: what old proxies and mail clients still pass on whole.
MAX_LENGTH = 2_048
#: RFC 1035, section 2.3.4.
_MAX_HOST, _MAX_LABEL = 253, 63
_MAX_PORT = 65_535
_DEFAULT_PORTS = {"http": 80, "https": 443}

# The percent-encode sets of the WHATWG URL standard, below the non-ASCII characters that are always encoded.
_QUERY_SET = frozenset(" \"#<>'")
_FRAGMENT_SET = frozenset(' "<>`')
#: Chromium encodes the bar as well, which the standard leaves as it is; encoded, it stays so everywhere.
_PATH_SET = frozenset(' "#<>?^`{|}')
_SLASHES = "must have exactly one leading slash"
_ONE_DOT = frozenset({".", "%2e"})
_TWO_DOTS = frozenset({"..", ".%2e", "%2e.", "%2e%2e"})

#: Most of our own paths, which need no change; judging one in full costs ten times as much.
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_-]+)+")
_ABSOLUTE = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]+)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[0-9]*))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_ZERO_RUN = re.compile(r"(?:^|(?<=:))0(?::0)+(?=:|$)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class InvalidActionUrl(InvalidInput):
    """The action URL is not allowed."""


def normalise(url: str, hosts: Collection[str] | None = None) -> str:
    """Return `url` as a browser would write it, or raise `InvalidActionUrl` with the reason.

    A path with exactly one leading slash is always allowed. `https` is allowed on any host while `hosts` is empty, and
    on those otherwise; `http` only on them. An entry with a port allows that port alone, one without allows all.
    `hosts` left out means the setting `action_url_hosts`. Normalising twice changes nothing.
    """
    if len(url) <= MAX_LENGTH and _PLAIN_PATH.fullmatch(url):
        return url
    _refuse_characters(url)
    if url.startswith("//"):
        raise _refused(_SLASHES)
    told = _path_and_more(url) if url.startswith("/") else _absolute(url, hosts)
    if len(told) > MAX_LENGTH:
        raise _refused(f"is longer than {MAX_LENGTH:,} characters")
    if told.startswith("//"):
        raise _refused(_SLASHES)
    return told


def _refused(reason: str) -> InvalidActionUrl:
    detail = f"The action URL {reason}."
    return InvalidActionUrl(detail, errors=(FieldError("action_url", reason),))


def _refuse_characters(url: str) -> None:
    if not url or len(url) > MAX_LENGTH:
        raise _refused(f"is longer than {MAX_LENGTH:,} characters" if url else "is empty")
    if "\\" in url:
        raise _refused("contains a backslash")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in url):
        raise _refused("contains a control character")
    if url != url.strip():
        raise _refused("has white space around it")


def _absolute(url: str, hosts: Collection[str] | None) -> str:
    parts = _ABSOLUTE.fullmatch(url)
    if parts is None:
        raise _refused("must be a path with one leading slash, or start with https://")
    scheme = parts["scheme"].lower()
    authority = _authority(scheme, parts["authority"])
    _refuse_host(scheme, authority, settings().action_url_hosts if hosts is None else hosts)
    rest = parts["rest"]
    return f"{scheme}://{authority}{_path_and_more(rest if rest.startswith('/') else '/' + rest)}"


def _refuse_host(scheme: str, authority: str, hosts: Collection[str]) -> None:
    allowed = {host.lower() for host in hosts}
    listed = authority in allowed or re.sub(r":[0-9]+$", "", authority) in allowed
    if scheme == "http" and not listed:
        raise _refused("may use http only on an allowed host")
    if allowed and not listed:
        raise _refused("names a host that is not allowed")


def _authority(scheme: str, authority: str) -> str:
    if "@" in authority:
        raise _refused("contains a user name or password")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _refused("has no valid host")
    host, port = _host(parts["host"].lower()), int(parts["port"] or _DEFAULT_PORTS[scheme])
    if port > _MAX_PORT:
        raise _refused("has no valid port")
    return host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"


def _host(host: str) -> str:
    """Return a lower-case host in its canonical form; names outside ASCII must come as punycode."""
    if host.startswith("["):
        return _ipv6(host[1:-1])
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(host)
    if len(host) > _MAX_HOST or not all(_is_label(label) for label in labels):
        raise _refused("has no valid host")
    return host


def _is_label(label: str) -> bool:
    if len(label) > _MAX_LABEL or not _LABEL.fullmatch(label):
        return False
    if not label.startswith("xn--"):
        return True
    try:
        return idna.encode(idna.decode(label)).decode() == label
    except idna.IDNAError:
        return False


def _ipv6(host: str) -> str:
    """Return the address in the URL standard's form: the first longest run of zeros as `::`, no dotted decimals.

    Not `IPv6Address.compressed`: newer Pythons write a mapped IPv4 address with dots, browsers never do.
    """
    try:
        packed = ipaddress.IPv6Address(host).packed
    except ValueError:
        raise _refused("has no valid host") from None
    text = ":".join(f"{high << 8 | low:x}" for high, low in zip(packed[::2], packed[1::2], strict=True))
    longest = max(_ZERO_RUN.finditer(text), key=lambda run: len(run.group()), default=None)
    if longest is None:
        return f"[{text}]"
    return f"[{text[: longest.start()].rstrip(':')}::{text[longest.end() :].lstrip(':')}]"


def _ipv4(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise _refused("has no valid host") from None


def _path_and_more(text: str) -> str:
    """Return path, query and fragment, percent-encoded and without dot segments."""
    before, hash_sign, fragment = text.partition("#")
    path, question_mark, query = before.partition("?")
    encoded = "/" + "/".join(_encoded(segment, _PATH_SET) for segment in _without_dots(path.split("/")[1:]))
    return encoded + question_mark + _encoded(query, _QUERY_SET) + hash_sign + _encoded(fragment, _FRAGMENT_SET)


def _without_dots(segments: list[str]) -> list[str]:
    kept: list[str] = []
    for position, segment in enumerate(segments):
        dots = segment.lower()
        if dots in _TWO_DOTS:
            del kept[-1:]
        elif dots not in _ONE_DOT:
            kept.append(segment)
            continue
        if position == len(segments) - 1:
            kept.append("")
    return kept


def _encoded(text: str, unsafe: frozenset[str]) -> str:
    """Percent-encode the UTF-8 bytes of what is unsafe or not ASCII; escapes that are there stay as they are."""
    return "".join(
        "".join(f"%{byte:02X}" for byte in character.encode()) if character in unsafe or character > "~" else character
        for character in text
    )
