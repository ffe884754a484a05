"""Who is mentioned in a text of GitHub, and what of it is quoted."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mentions import MAX_BODY, MAX_EXCERPT, excerpt, mentioned, plain


@pytest.mark.parametrize(
    ("body", "logins"),
    [
        ("@octocat", ["octocat"]),
        ("Hi @octocat, @hub-ot! (@a1) **@bold** _@emphasis_", ["octocat", "hub-ot", "a1", "bold", "emphasis"]),
        ("@Octocat and @octoCAT", ["Octocat"]),
        ("Thanks @octocat. And @hubot...", ["octocat", "hubot"]),
        ("@mona_acme of a managed company", ["mona_acme"]),
        ("> @quoted said", ["quoted"]),
        ("Dependabot: @dependabot[bot]", ["dependabot"]),
        ("ada@octocat.com, first.last+x@octocat, a@b", []),
        ("@org/team and @org/", []),
        ("https://medium.com/@octocat/post?to=@hubot", []),
        ("@octocat.com", []),
        ("@-octocat @ octocat @@", []),
        ("@" + "a" * 40, []),
        ("@" + "a" * 39, ["a" * 39]),
        ("`@octocat` ``a ` @octocat`` @hubot", ["hubot"]),
        ("a ` alone @octocat", ["octocat"]),
        ("`` not closed by ` @octocat", ["octocat"]),
        ("```\n@octocat\n```\n@hubot", ["hubot"]),
        ("````md\n```\n@octocat\n```\n````\n@hubot", ["hubot"]),
        ("~~~\n@octocat\n```\n@octocat\n~~~ \n@hubot", ["hubot"]),
        ("```\n@octocat in a block that never ends", []),
        ("```js @octocat``` inline\n@hubot", ["hubot"]),
        ("<!-- @octocat\n please -->@hubot<!-- @octocat", ["hubot"]),
        ("é@octocat ü @hubot", ["hubot"]),
        ("", []),
    ],
)
def test_mentions_are_githubs_own(body: str, logins: list[str]) -> None:
    assert mentioned(body) == logins


@pytest.mark.parametrize("piece", ["`", "` ", "``` \n", "@a", "@a-", "<!--", "~~~\n", "@a/", "@a_", "http://", "@a."])
def test_a_hostile_text_costs_less_than_a_second(piece: str) -> None:
    began = time.process_time()
    mentioned(piece * MAX_BODY)
    excerpt(piece * MAX_BODY)
    assert time.process_time() - began < 1.0


@given(st.text())
def test_any_text_is_read(body: str) -> None:
    for login in mentioned(body):
        assert f"@{login}" in body
    assert len(excerpt(body)) <= MAX_EXCERPT
    assert "\n" not in excerpt(body)


def test_an_excerpt_is_one_line_cut_at_a_word() -> None:
    assert excerpt("One\r\n\r\n  two <!-- a template's words -->three\u2028four") == "One two three four"
    assert excerpt("x" * 300) == "x" * 300
    assert excerpt("x" * 301) == "x" * 299 + "…"
    assert plain("alpha beta gamma", 12) == "alpha beta…"
    assert plain("a\ud800b\x00c", 10) == "ab c"
