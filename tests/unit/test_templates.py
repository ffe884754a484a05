"""Templates are sandboxed, strict, plain and bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.action_url import InvalidActionUrl
from shared.catalog import Audience, EventType, catalog
from shared.templates import (
    MAX_OUTPUT_BYTES,
    Rendered,
    TemplateFailed,
    amount,
    day,
    is_personal,
    minute,
    render,
    segment,
)


def certificate() -> EventType:
    found = catalog().get("certificate.revoked")
    assert found is not None
    return found


def audience(title: str = "t", message: str = "m", action_url: str | None = None) -> Audience:
    return replace(certificate().audiences[0], title=title, message=message, action_url=action_url)


DATA = {"student_id": "ada", "certificate_id": "c/1", "badge_title": "Rust"}


def rendered(
    data: dict[str, Any] | None = None,
    recipient: dict[str, Any] | None = None,
    *,
    title: str = "t",
    message: str = "m",
    action_url: str | None = None,
) -> Rendered:
    return render(
        certificate(), audience(title, message, action_url), data or DATA, tenant="uni-7", recipient=recipient
    )


def test_texts_are_plain_and_nothing_is_escaped() -> None:
    data = {**DATA, "badge_title": '<b>R & "D"</b> {{ 7 * 7 }}'}
    assert rendered(data, message="{{ badge_title }}").message == '<b>R & "D"</b> {{ 7 * 7 }}'


def test_an_absent_optional_field_is_none_and_prints_nothing() -> None:
    source = "Revoked.{% if reason %} Reason: {{ reason }}{% endif %}"
    assert rendered(message=source).message == "Revoked."
    assert rendered({**DATA, "reason": "Fraud"}, message=source).message == "Revoked. Reason: Fraud"
    assert rendered(message="[{{ reason }}]").message == "[]"


def test_templates_see_the_tenant() -> None:
    assert rendered(message="{{ tenant }}").message == "uni-7"


def test_a_personal_text_reads_the_recipient() -> None:
    recipient = {"id": "ada", "locale": "pt", "attributes": {"nickname": "A."}}
    source = "{{ recipient.id }} {{ recipient.locale }} {{ recipient.attributes.nickname }}"
    assert is_personal(audience(message=source))
    assert is_personal(audience(action_url="/people/{{ recipient.id | segment }}"))
    assert is_personal(audience(message="{% if recipient.locale == 'pt' %}Olá{% endif %}"))
    assert not is_personal(audience())
    assert rendered(recipient=recipient, message=source).message == "ada pt A."
    with pytest.raises(TemplateFailed):
        rendered(message=source)


def test_a_title_is_one_line() -> None:
    assert (
        rendered({**DATA, "badge_title": "One\r\nTwo\u2028Three"}, title="{{ badge_title }}\n").title == "One Two Three"
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ badge_title.__init__.__globals__ }}",
        "{{ badge_title.format.__self__.__class__ }}",
        "{{ '{0.__class__}'.format(badge_title) }}",
        "{{ no_such_name }}",
        "{% for n in range(99999999) %}{{ n }}{% endfor %}",
        "{{ 1 // 0 }}",
        "{{ badge_title + 1 }}",
    ],
)
def test_what_a_template_may_not_do_fails_without_quoting_data(source: str) -> None:
    with pytest.raises(TemplateFailed) as refused:
        rendered({**DATA, "badge_title": "secret"}, message=source)
    assert "secret" not in refused.value.detail


def test_an_output_of_64_kib_is_accepted_and_one_byte_more_is_not() -> None:
    whole = "{% for n in range(count) %}é{% endfor %}"
    assert len(rendered(message=whole.replace("count", str(MAX_OUTPUT_BYTES // 2))).message) == MAX_OUTPUT_BYTES // 2
    with pytest.raises(TemplateFailed, match="larger than 65536 bytes"):
        rendered(message=whole.replace("count", str(MAX_OUTPUT_BYTES // 2)) + "x")


def test_an_endless_output_is_not_built_whole() -> None:
    loops = "{% for n in range(99999) %}{% for n in range(99999) %}xxxxxxxxxx{% endfor %}{% endfor %}"
    with pytest.raises(TemplateFailed, match="larger than"):
        rendered(message=loops)


def test_action_urls_are_encoded_and_checked() -> None:
    assert rendered(action_url="/c/{{ certificate_id | segment }}").action_url == "/c/c%2F1"
    assert rendered(action_url="{% if reason %}/r{% endif %}").action_url is None
    assert rendered().action_url is None
    with pytest.raises(InvalidActionUrl):
        rendered(action_url="{{ certificate_id }}")


@given(st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable()))
def test_a_value_never_leaves_its_segment(value: str) -> None:
    url = rendered({**DATA, "certificate_id": value}, action_url="/c/{{ certificate_id | segment }}/end").action_url
    assert url is not None
    assert url.count("/") == 3
    assert url.startswith("/c/")
    assert url.endswith("/end")
    assert "?" not in url
    assert "#" not in url


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a/b c", "a%2Fb%20c"), ("..", "%252E%252E"), (".", "%252E"), ("...", "..."), ("é?#", "%C3%A9%3F%23"), (7, "7")],
)
def test_a_segment_is_percent_encoded(value: object, expected: str) -> None:
    assert segment(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (50, "50"),
        (50.0, "50"),
        (49.9, "49.90"),
        (0.125, "0.125"),
        ("49.9", "49.90"),
        ("50.00", "50.00"),
        (1e13, "1" + "0" * 13),
    ],
)
def test_an_amount_has_no_exponent_and_whole_cents(value: float | str, expected: str) -> None:
    assert amount(value) == expected


def test_a_minute_is_told_in_utc() -> None:
    assert minute("2026-03-01T23:30:59-05:00") == "2026-03-02 04:30 UTC"
    assert minute("2026-03-01") == "2026-03-01 00:00 UTC"


def test_a_day_is_what_the_producer_wrote() -> None:
    assert day("2026-03-01T23:30:00-05:00") == "2026-03-01"
    assert day("2026-03-01") == "2026-03-01"
