"""What a notification may link to, and that it means the same to a browser."""

from __future__ import annotations

import json
import random
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_url import MAX_LENGTH, InvalidActionUrl, normalise

HOSTS = ("example.com", "localhost:8000")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/", "/"),
        ("/student/certificates/7", "/student/certificates/7"),
        ("/a b/é?q='x'#`y`", "/a%20b/%C3%A9?q=%27x%27#%60y%60"),
        ("/a/./b/../c/%2e%2E/d/..", "/a/"),
        ("/a%2Fb%zz", "/a%2Fb%zz"),
        ("/a//b", "/a//b"),
        ("/?", "/?"),
        ("/{x}^`", "/%7Bx%7D%5E%60"),
        ("https://Example.COM", "https://example.com/"),
        ("HTTPS://example.com:443?q#f", "https://example.com/?q#f"),
        ("https://example.com:0444/../x", "https://example.com:444/x"),
        ("https://example.com:/", "https://example.com/"),
        ("https://10.0.0.1//x", "https://10.0.0.1//x"),
        ("https://[2001:DB8:0:0::1]:8443/", "https://[2001:db8::1]:8443/"),
        ("https://[::ffff:10.0.0.1]/", "https://[::ffff:a00:1]/"),
        ("https://[1:0:0:2:0:0:0:3]/", "https://[1:0:0:2::3]/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
    ],
)
def test_an_allowed_url_comes_back_as_a_browser_writes_it(url: str, expected: str) -> None:
    assert normalise(url, ()) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is empty"),
        ("//evil.example", "must have exactly one leading slash"),
        ("/..//evil.example", "must have exactly one leading slash"),
        ("/%2e//evil.example", "must have exactly one leading slash"),
        ("/\\evil.example", "contains a backslash"),
        ("https:\\\\evil.example", "contains a backslash"),
        ("/\tx", "contains a control character"),
        ("/x\x85", "contains a control character"),
        ("/\ud800", "contains a control character"),
        ("java\nscript:alert(1)", "contains a control character"),
        (" /x", "has white space around it"),
        ("/x\u3000", "has white space around it"),
        ("javascript:alert(1)", "must be a path with one leading slash, or start with https://"),
        ("data:text/html,x", "must be a path with one leading slash, or start with https://"),
        ("relative/path", "must be a path with one leading slash, or start with https://"),
        ("https:/example.com", "must be a path with one leading slash, or start with https://"),
        ("https:///example.com", "must be a path with one leading slash, or start with https://"),
        ("ftp://example.com", "must be a path with one leading slash, or start with https://"),
        ("https://ada@example.com", "contains a user name or password"),
        ("https://ada:pw@example.com", "contains a user name or password"),
        ("https://@example.com", "contains a user name or password"),
        ("http://example.com", "may use http only on an allowed host"),
        ("https://example.com:65536", "has no valid port"),
        ("https://example.com:8x", "has no valid host"),
        ("https://exa mple.com", "has no valid host"),
        ("https://ex%61mple.com", "has no valid host"),
        ("https://bücher.example", "has no valid host"),
        ("https://0x7f.1", "has no valid host"),
        ("https://2130706433", "has no valid host"),
        ("https://127.1", "has no valid host"),
        ("https://010.0.0.1", "has no valid host"),
        ("https://[fe80::1%25eth0]/", "has no valid host"),
        ("https://a..example", "has no valid host"),
        ("https://-a.example", "has no valid host"),
        ("https://xn--a/", "has no valid host"),
        ("https://" + "a" * 64 + ".example", "has no valid host"),
    ],
)
def test_a_refused_url_says_why(url: str, reason: str) -> None:
    with pytest.raises(InvalidActionUrl) as refused:
        normalise(url, ())
    assert [(error.field, error.message) for error in refused.value.errors] == [("action_url", reason)]


def test_2048_characters_are_allowed_and_one_more_is_not_even_after_encoding() -> None:
    assert len(normalise("/" + "x" * (MAX_LENGTH - 1), ())) == MAX_LENGTH
    for long in ("/" + "x" * MAX_LENGTH, "/" + "é" * (MAX_LENGTH // 2)):
        with pytest.raises(InvalidActionUrl, match="longer than 2,048 characters"):
            normalise(long, ())


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("/path", True),
        ("https://example.com/x", True),
        ("http://EXAMPLE.com/x", True),
        ("https://example.com:8443/x", True),
        ("http://localhost:8000/x", True),
        ("http://localhost:9000/x", False),
        ("http://localhost/x", False),
        ("https://www.example.com/x", False),
        ("https://example.com.evil.example/", False),
        ("https://example.com./", False),
    ],
)
def test_listed_hosts_are_the_only_ones_and_may_use_http(url: str, allowed: bool) -> None:
    if allowed:
        assert normalise(url, HOSTS).lower() == url.lower()
    else:
        with pytest.raises(InvalidActionUrl):
            normalise(url, HOSTS)


ALPHABET = "/.%2eEab?#@:[]\\ \t\n'\"<>`{}^|éß\u3000\u202e;=&+~!$*()-_0123xn"


def accepted(url: str) -> str | None:
    try:
        return normalise(url, ("example.com", "[::1]", "10.0.0.1"))
    except InvalidActionUrl:
        return None


@given(
    st.one_of(
        st.text(), st.text(ALPHABET), st.text(ALPHABET).map("/".__add__), st.text(ALPHABET).map("https://".__add__)
    )
)
def test_normalising_twice_changes_nothing_and_never_fails_otherwise(url: str) -> None:
    told = accepted(url)
    if told is not None:
        assert accepted(told) == told
        assert told.isascii()
        assert told.isprintable()
        assert "\\" not in told


def _guess(dice: random.Random) -> str:
    starts = (
        "/",
        "/",
        "/a/",
        "https://example.com",
        "http://example.com",
        "https://[::1]",
        "https://10.0.0.1",
        "hTTps://",
    )
    body = "".join(dice.choice(ALPHABET) for _ in range(dice.randrange(14)))
    return dice.choice(starts) + body


def test_what_is_accepted_means_the_same_to_the_url_standard() -> None:
    """Node's `URL` implements the WHATWG standard that browsers follow; 30,000 guesses from a fixed seed."""
    dice = random.Random(2026)
    guesses = sorted({_guess(dice) for _ in range(30_000)})
    pairs = [(guess, told) for guess in guesses if (told := accepted(guess)) is not None]
    assert len(pairs) > 3_000
    script = """
        const pairs = JSON.parse(require('fs').readFileSync(0, 'utf8')), base = 'https://host.example';
        const wrong = pairs.filter(([guess, told]) => {
          const url = new URL(guess, base), again = new URL(told, base);
          const own = guess.startsWith('/') ? again.href.slice(base.length) : again.href;
          // Browsers differ in whether a path's caret and bar are encoded; we encode them.
          const same = href => href.replaceAll('^', '%5E').replaceAll('|', '%7C');
          return same(again.href) !== same(url.href) || own !== told
            || url.username || url.password || (guess.startsWith('/') && url.origin !== base);
        });
        console.log(JSON.stringify(wrong.slice(0, 10)));
    """
    answer = subprocess.run(["node", "-e", script], input=json.dumps(pairs), capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == []
