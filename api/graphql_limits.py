"""How much one GraphQL document may ask for, judged in one pass before it is validated or run.

Strawberry's own limiters walk into a fragment at each of its spreads: sixty fragments of two spreads each would keep
them busy for ever. Here a fragment is measured once. A document of many fields is refused before graphql-core compares
each of them with each other (900 of them took 240 ms, in which no stream was served).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    IntValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
)
from strawberry.extensions import SchemaExtension

from shared.settings import settings

#: Of a document; a page with all its fields and the count has about 40.
MAX_TOKENS = 1_000
#: Fields and fragments as they stand in the document; the same page has 17, the usual introspection query 75.
MAX_SELECTIONS = 100
MAX_DEPTH = 10
MAX_ALIASES = 15
#: Fields in the answer: two of the largest pages in full, some 20 ms of the process's time.
MAX_COST = 2_500
#: What a call costs, in fields of an answer: a transaction is about as much work as this.
CALL_COST = 20
CALLS = frozenset(
    {
        "notifications",
        "unreadNotificationCount",
        "markNotificationAsRead",
        "markAllNotificationsAsRead",
        "deleteNotification",
    }
)


@dataclass(frozen=True, slots=True)
class Size:
    """What a selection has: levels, aliases, fields in the answer, and those that each row of a page repeats."""

    depth: int = 0
    aliases: int = 0
    cost: int = 0
    row_cost: int = 0

    def beside(self, other: Size) -> Size:
        """Return the size of both, one after the other."""
        return Size(
            max(self.depth, other.depth),
            self.aliases + other.aliases,
            self.cost + other.cost,
            self.row_cost + other.row_cost,
        )


class Measure:
    """Measures one document with its variables. What validation refuses later (cycles, unknown names) is empty here."""

    def __init__(self, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._document = document
        self._variables = variables
        self._defaults: dict[str, int] = {}
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._known: dict[str, Size] = {}

    def fault(self) -> str | None:
        """Return what is too much in the document, all of its operations counted; None when nothing is."""
        if self._selections() > MAX_SELECTIONS:
            return f"The document has more than {MAX_SELECTIONS} selections."
        operations = [node for node in self._document.definitions if isinstance(node, OperationDefinitionNode)]
        return _too_much(reduce(Size.beside, map(self._operation, operations), Size()))

    def _selections(self) -> int:
        waiting: list[Any] = [getattr(node, "selection_set", None) for node in self._document.definitions]
        many = 0
        while waiting:
            found = waiting.pop()
            if isinstance(found, SelectionSetNode):
                many += len(found.selections)
                waiting += [getattr(node, "selection_set", None) for node in found.selections]
        return many

    def _operation(self, operation: OperationDefinitionNode) -> Size:
        self._known = {}
        self._defaults = {
            each.variable.name.value: _number(each.default_value)
            for each in operation.variable_definitions or ()
            if isinstance(each.default_value, IntValueNode)
        }
        return self._all(operation.selection_set.selections)

    def _all(self, selections: Iterable[SelectionNode]) -> Size:
        # Each fragment is entered once, so this goes no deeper than the document has selections.
        return reduce(Size.beside, map(self._one, selections), Size())

    def _one(self, node: SelectionNode) -> Size:
        if isinstance(node, FragmentSpreadNode):
            return self._fragment(node.name.value)
        if isinstance(node, FieldNode):
            return self._field(node)
        inner = self._all(node.selection_set.selections)  # type: ignore[attr-defined]
        return replace(inner, depth=inner.depth + 1)

    def _fragment(self, name: str) -> Size:
        if name not in self._known:
            self._known[name] = Size()
            fragment = self._fragments.get(name)
            if fragment is not None:
                self._known[name] = self._all(fragment.selection_set.selections)
        return self._known[name]

    def _field(self, node: FieldNode) -> Size:
        name, aliases = node.name.value, int(node.alias is not None)
        if node.selection_set is None or name.startswith("__"):
            return Size(1, aliases, CALL_COST if name in CALLS else 1)
        inner = self._all(node.selection_set.selections)
        depth, aliases = inner.depth + 1, inner.aliases + aliases
        if name == "nodes":
            return Size(depth, aliases, 1, 1 + inner.cost)
        own = CALL_COST if name in CALLS else 1
        rows = self._rows(node) if name == "notifications" else 0
        return Size(depth, aliases, own + inner.cost + rows * inner.row_cost)

    def _rows(self, node: FieldNode) -> int:
        """Return how many rows a page may have; what is no number here is refused where it is read."""
        value = next((each.value for each in node.arguments or () if each.name.value == "first"), None)
        told: Any = None
        if isinstance(value, IntValueNode):
            told = _number(value)
        elif isinstance(value, VariableNode):
            told = self._variables.get(value.name.value, self._defaults.get(value.name.value))
        most = settings().max_page_size
        return min(max(told, 0), most) if isinstance(told, int) else settings().page_size


def _number(node: IntValueNode) -> int:
    #: A longer one is no 32-bit integer, and is refused where it is read.
    return int(node.value[:11])


def _too_much(size: Size) -> str | None:
    counted = (
        ("levels", size.depth, MAX_DEPTH),
        ("aliases", size.aliases, MAX_ALIASES),
        ("fields in its answer", size.cost, MAX_COST),
    )
    return next((f"The document has more than {most:,} {what}." for what, many, most in counted if many > most), None)


class Limits(SchemaExtension):
    """Refuses a document of more than `MAX_TOKENS` tokens, and what `Measure` finds too much, before validation."""

    def on_operation(self) -> Iterator[None]:
        """Have the parser stop in time."""
        self.execution_context.parse_options["max_tokens"] = MAX_TOKENS
        yield

    def on_validate(self) -> Iterator[None]:
        """Judge the parsed document."""
        context = self.execution_context
        if context.graphql_document is not None:
            fault = Measure(context.graphql_document, context.variables or {}).fault()
            if fault is not None:
                context.pre_execution_errors = [GraphQLError(fault)]
        yield
