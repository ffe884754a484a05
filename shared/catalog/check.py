"""What can be wrong with a declared event type, found before any event is: names, roles, URLs, examples, texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes

from shared import action_url, templates
from shared.catalog.model import Audience, EventType
from shared.errors import InvalidInput

_RECIPIENT_ATTRIBUTES = frozenset({"id", "locale", "attributes"})
_URL_FILTERS = frozenset({"segment", "urlencode"})
_TOPIC, _ACTION_URL = "a topic", "an action URL"
_SAMPLE_RECIPIENT = {"id": "ada", "locale": "en", "attributes": {}}
_SAMPLE_TENANT = "acme"


@dataclass(frozen=True, slots=True)
class Fault:
    """One sentence about a file or one of its types."""

    file: str
    type_name: str | None
    what: str

    @property
    def place(self) -> str:
        return self.file if self.type_name is None else f"{self.file}: {self.type_name}"

    def __str__(self) -> str:
        return f"{self.place} {self.what}."


def faults_of(kind: EventType, files: Mapping[str, str], roles: Collection[str]) -> list[Fault]:
    """Return every fault of one type; `files` tells by type name which file declares it. Empty means none."""
    found = [*_type_faults(kind), *_example_faults(kind)]
    for audience in kind.audiences:
        place = f"(audience {audience.position})"
        in_audience = [*_audience_faults(kind, audience, roles), *_template_faults(kind, audience)]
        found += [f"{place} {what}" for what in in_audience or _rendering_faults(kind, audience)]
    return [Fault(files[kind.name], kind.name, what) for what in found]


def _type_faults(kind: EventType) -> Iterator[str]:
    for name in kind.metadata:
        if name not in kind.properties:
            yield f"has `{name}` in its metadata, which its data lacks"
    if kind.shown != bool(kind.audiences):
        yield "is not shown, but has an audience" if kind.audiences else "is shown, but has no audience"


def _example_faults(kind: EventType) -> Iterator[str]:
    for error in kind.errors(kind.example):
        yield f"has an example that does not fit its data: {error.field or 'the whole'} {error.message}"


def _audience_faults(kind: EventType, audience: Audience, roles: Collection[str]) -> Iterator[str]:
    if audience.field is not None and not _names_recipients(kind.properties.get(audience.field)):
        yield f"names `{audience.field}` as its recipient, which is no id (or list of ids) in its data"
    if audience.role is not None and audience.role not in roles:
        yield f"has the unknown role `{audience.role}`"
    if audience.when is not None and kind.properties.get(audience.when, {}).get("type") != "boolean":
        yield f"depends on `{audience.when}`, which is no true or false in its data"
    if audience.kind == "posted" and kind.properties.get("audience", {}).get("type") != "object":
        yield "is posted, but its data has no `audience` object"


def _names_recipients(schema: Mapping[str, Any] | None) -> bool:
    if schema is None:
        return False
    items = schema.get("items", {}) if schema.get("type") == "array" else schema
    return items.get("type") == "string"


def _template_faults(kind: EventType, audience: Audience) -> Iterator[str]:
    sources = {"a title": audience.title, "a message": audience.message}
    sources |= {_ACTION_URL: audience.action_url} if audience.action_url else {}
    sources |= {_TOPIC: audience.topic} if audience.topic else {}
    for where, source in sources.items():
        try:
            tree = templates.ENVIRONMENT.parse(source)
            templates.compiled(source)
        except TemplateSyntaxError as problem:
            yield f"has {where} that is no valid template: {problem.message}"
            continue
        yield from (f"has {where} that {what}" for what in _name_faults(kind, where, source, tree))


def _name_faults(kind: EventType, where: str, source: str, tree: nodes.Template) -> Iterator[str]:
    known = kind.properties.keys() | templates.CONTEXT_NAMES
    known -= {"recipient"} if where == _TOPIC else set()
    for name in sorted(templates.names_used(source) - known):
        yield f"uses `{name}`, which its data lacks"
    if where == _TOPIC:
        for name in sorted((templates.names_used(source) & kind.properties.keys()) - set(kind.schema["required"])):
            yield f"uses `{name}`, which is optional"
    for attribute in tree.find_all(nodes.Getattr):
        yield from _attribute_faults(kind, attribute)
    if where == _ACTION_URL:
        yield from _encoding_faults(kind, tree)


def _attribute_faults(kind: EventType, read: nodes.Getattr) -> Iterator[str]:
    if not isinstance(read.node, nodes.Name):
        return
    owner = read.node.name
    known = _RECIPIENT_ATTRIBUTES if owner == "recipient" else kind.properties.get(owner, {}).get("properties")
    if known is not None and read.attr not in known:
        yield f"uses `{owner}.{read.attr}`, which does not exist"


def _encoding_faults(kind: EventType, tree: nodes.Template) -> Iterator[str]:
    for output in tree.find_all(nodes.Output):
        for part in output.nodes:
            if not _is_url_safe(kind, part):
                yield "puts a value in without encoding it: write {{ name | segment }}"


def _is_url_safe(kind: EventType, part: nodes.Expr) -> bool:
    if isinstance(part, nodes.TemplateData | nodes.Const):
        return True
    if isinstance(part, nodes.Filter):
        return part.name in _URL_FILTERS
    return isinstance(part, nodes.Name) and kind.properties.get(part.name, {}).get("format") == "action-url"


def _refuse_none(value: Any) -> Any:
    if value is None:
        raise TemplateError("prints an optional field that may be absent: guard it with {% if … %}")
    return value


_STRICT = templates.ENVIRONMENT.overlay(finalize=_refuse_none)


def _rendering_faults(kind: EventType, audience: Audience) -> list[str]:
    """Return what goes wrong when the example is rendered: whole, with its optional fields alone or left out."""
    if kind.errors(kind.example):
        return []
    faults = (fault for data in _variants(kind) for fault in _rendering_fault(kind, audience, data))
    return list(dict.fromkeys(faults))


def _variants(kind: EventType) -> Iterator[dict[str, Any]]:
    optional = [name for name in kind.example if name not in kind.schema["required"]]
    required = {name: value for name, value in kind.example.items() if name not in optional}
    yield kind.example
    yield required
    for name in optional:
        yield {**required, name: kind.example[name]}
        yield {key: value for key, value in kind.example.items() if key != name}


def _rendering_fault(kind: EventType, audience: Audience, data: dict[str, Any]) -> Iterator[str]:
    context = templates.context_of(kind, data, tenant=_SAMPLE_TENANT, recipient=_SAMPLE_RECIPIENT)
    try:
        title, message = (_STRICT.from_string(source).render(context) for source in (audience.title, audience.message))
        url = _STRICT.from_string(audience.action_url or "").render(context)
        if url:
            action_url.normalise(url)
    except InvalidInput as problem:
        yield f"has a bad action URL: {problem.detail}".rstrip(".")
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as problem:
        yield f"has a text that cannot be rendered: {problem}"
    else:
        texts = {"title": title, "message": message}
        yield from (f"has an empty {name}" for name, text in texts.items() if not text.strip())
