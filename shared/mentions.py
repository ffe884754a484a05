"""Reading the texts of GitHub: who is mentioned in them, and what is fit to be quoted in a notification."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

#: GitHub's own bound of a body is 65,536 characters; more is not GitHub's and is not read.
MAX_BODY = 65_536
#: What a list shows of a comment without becoming the comment.
MAX_EXCERPT = 300

# GitHub's logins: letters, digits and single hyphens, at most 39; managed users have `_<short code>` at the end.
_MENTION = re.compile(
    r"""(?<![^\W_]) (?<![/@.+%`=-])              # neither in a word or an address, nor in a path
        @(?P<login>(?>[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9]))*(?:_[a-z0-9]+)?))
        (?!/)                                    # @org/team is a team
        (?=\.+(?:\s|\W|$)|[^0-9a-z_.]|_(?![0-9a-z])|$)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MAX_LOGIN = 39
_URL = re.compile(r"https?://[^\s)>\]]+", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_FENCE = re.compile(r" {0,3}(?:> ?)*(?P<fence>`{3,}|~{3,})(?P<info>.*)")
_TICKS = re.compile(r"`+|[^`]+")


def mentioned(body: str) -> list[str]:
    """Return the logins that `body` mentions as `@login`, in order, each once whatever its case, as first written.

    What stands in code, in an HTML comment, an URL or an e-mail address is no mention, and neither is a team.
    """
    text = _URL.sub(" ", _without_code(_COMMENT.sub(" ", body[:MAX_BODY])))
    logins = (match["login"] for match in _MENTION.finditer(text))
    first: dict[str, str] = {}
    for login in logins:
        if len(login) <= _MAX_LOGIN:
            first.setdefault(login.lower(), login)
    return list(first.values())


def _without_code(body: str) -> str:
    return "".join(_without_spans("\n".join(_without_fences(body.splitlines()))))


def _without_fences(lines: list[str]) -> Iterator[str]:
    """Yield the lines outside fenced blocks; a block ends with a fence as long as its first, or with the text."""
    opened = ""
    for line in lines:
        mark = _FENCE.match(line)
        fence = mark["fence"] if mark else ""
        if opened:
            closes = mark is not None and fence.startswith(opened) and not mark["info"].strip()
            opened = "" if closes else opened
        elif mark is not None and not (fence[0] == "`" and "`" in mark["info"]):
            opened = fence
        else:
            yield line


def _without_spans(text: str) -> Iterator[str]:
    """Yield what stands outside code spans: a run of backticks opens one if a run of that length follows."""
    pieces = _TICKS.findall(text)
    last = {piece: position for position, piece in enumerate(pieces) if piece.startswith("`")}
    opened = ""
    for position, piece in enumerate(pieces):
        if opened:
            opened = "" if piece == opened else opened
        elif piece.startswith("`") and last[piece] > position:
            opened = piece
        else:
            yield " " if piece.startswith("`") else piece


def plain(text: str, limit: int) -> str:
    """Return `text` in one line without control characters, cut at a word with `…` to at most `limit` characters."""
    spaced = (" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)
    line = " ".join("".join(c for c in spaced if unicodedata.category(c) != "Cs").split())
    if len(line) <= limit:
        return line
    head = line[: limit - 1]
    at_word, space, _ = head.rpartition(" ")
    # A word longer than half of the room is cut itself: better than an almost empty excerpt.
    return (at_word if space and len(at_word) > limit // 2 else head).rstrip() + "…"


def excerpt(body: str) -> str:
    """Return what a notification quotes of a comment, without HTML comments; empty if there is nothing to quote."""
    return plain(_COMMENT.sub(" ", body[:MAX_BODY]), MAX_EXCERPT)
