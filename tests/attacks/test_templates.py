"""Templates: what producers send stays text, and what a catalog's author writes stays in the sandbox."""

from __future__ import annotations

import pytest
from jinja2 import TemplateSyntaxError

from shared.catalog import catalog
from shared.templates import TemplateFailed, fill, render

DATA = {"title": "x", "items": [1, 2, 3], "text": "abc", "number": 7}
ESCAPES = {
    "the classes of a text": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "the globals of a function": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "the environment's configuration": "{{ self._TemplateReference__context.environment }}",
    "a method's code": "{{ title.upper.__func__.__code__ }}",
    "an attribute by a filter": "{{ ''|attr('__class__') }}",
    "an attribute by its parts": "{{ ''['__cla' ~ 'ss__'] }}",
    "a format string": "{{ '{0.__class__}'.format(1) }}",
    "a format map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "a change of the data": "{{ items.append(4) }}",
    "a name that is not there": "{{ secret }}",
    "a field of a field that is not there": "{{ text.nothing.more }}",
    "a division by nothing": "{{ 1 // 0 }}",
    "a text of a gigabyte": "{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxxxxxx{% endfor %}{% endfor %}",
    "a range beyond reason": "{% for a in range(999999999) %}x{% endfor %}",
    "a file": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}{{ os }}",
}
UNREADABLE = {
    "half of an expression": "{{ title",
    "a loop without an end": "{% for a in items %}",
    "a call": "{% call %}",
}
PAYLOADS = ["{{ 7 * 7 }}", "{% for a in range(9) %}x{% endfor %}", "{{ ''.__class__ }}", "<script>alert(1)</script>",
            "\u202etxt.exe", "%7B%7B7*7%7D%7D", "${7*7}", "#{7*7}", "data: x\n\nevent: notification"]  # fmt: skip


@pytest.mark.parametrize("source", ESCAPES.values(), ids=ESCAPES)
def test_a_way_out_of_the_sandbox_is_refused_without_its_words(source: str) -> None:
    with pytest.raises(TemplateFailed) as refused:
        fill(source, DATA)
    assert refused.value.detail.startswith(("A text cannot be rendered (", "A text is larger than 65536 bytes."))
    assert DATA["items"] == [1, 2, 3]


@pytest.mark.parametrize("source", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_template_is_refused(source: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        fill(source, DATA)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_a_producer_sends_is_told_letter_by_letter(payload: str) -> None:
    kind = catalog().get("certificate.issued")
    assert kind is not None
    told = render(kind, kind.audiences[0], {**kind.example, "badge_title": payload}, tenant="acme")
    assert f'"{payload}"' in told.message


@pytest.mark.parametrize(
    "id", ["../../admin", "//evil.example", "javascript:alert(1)", "a?b#c", "%2e%2e", "a\\b", "\u202e", "a b"]
)
def test_an_id_stays_one_part_of_its_path(id: str) -> None:
    kind = catalog().get("certificate.issued")
    assert kind is not None
    told = render(kind, kind.audiences[0], {**kind.example, "certificate_id": id}, tenant="acme")
    assert told.action_url is not None
    assert told.action_url.startswith("/student/certificates/")
    assert told.action_url.count("/") == 3
    assert not set("?#\\ ") & set(told.action_url)
