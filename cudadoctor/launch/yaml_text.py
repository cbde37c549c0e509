"""YAML as a tree of values with their lines, within bounds.

PyYAML's events are read one at a time: it never builds a document itself, so that no anchor can make a small
file large, no nesting deep, and no tag an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from cudadoctor.launch.texts import LaunchUnreadable

_DEEPEST = 40
_MOST_NODES = 50_000
_LONGEST_NUMBER = 64  #: a longer scalar is no number, date or switch: a text, however it is written


class Node(Struct, frozen=True):
    """A scalar's text and what it means, a list of nodes, or a mapping of nodes."""

    line: int
    text: str = ""
    value: Any = None  #: of a scalar, as YAML 1.1 reads it: True for "yes", 0.9 for "0.90"
    items: tuple[Node, ...] | None = None
    pairs: dict[str, Node] | None = None
    source: str = ""  #: the file that it stands in

    def get(self, name: str) -> Node | None:
        """Return what a mapping has under a name, or None."""
        return None if self.pairs is None else self.pairs.get(name)

    @property
    def scalar(self) -> bool:
        """Return whether this is neither a list nor a mapping."""
        return self.items is None and self.pairs is None

    def plain(self, budget: list[int] | None = None) -> Any:
        """Return the value without its lines: what a bomb of anchors would make endless raises ValueError."""
        budget = [_MOST_NODES] if budget is None else budget
        budget[0] -= 1
        if budget[0] < 0:
            raise ValueError("too large")
        if self.items is not None:
            return [item.plain(budget) for item in self.items]
        if self.pairs is not None:
            return {key: item.plain(budget) for key, item in self.pairs.items()}
        return self.value


def parse(text: str, source: str) -> Node:
    """Return the first document of a YAML text; an empty one is a mapping without anything.

    Raises LaunchUnreadable with the line of whatever is wrong.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml.parse(text, Loader=loader), yaml.SafeLoader(""), source).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise LaunchUnreadable(f"{source}:{line}: no valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise LaunchUnreadable(f"{source}: no valid YAML: {' '.join(str(error).split())}") from None


class _Builder:
    def __init__(self, events: Iterator[Any], scalars: Any, source: str) -> None:
        self._events, self._scalars, self._source = events, scalars, source
        self._anchors: dict[str, Node | None] = {}
        self._nodes = 0

    def document(self) -> Node:
        import yaml

        for event in self._events:
            if isinstance(event, (yaml.StreamEndEvent, yaml.DocumentEndEvent)):
                break
            if isinstance(event, yaml.NodeEvent):
                return self._node(event, 0)
        return Node(1, pairs={})

    def _node(self, event: Any, depth: int) -> Node:
        import yaml

        line = event.start_mark.line + 1
        self._count(1, line)
        if depth > _DEEPEST:
            raise LaunchUnreadable(f"{self._source}:{line}: nested more than {_DEEPEST} deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = Node(line, event.value, self._value(event), source=self._source)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(line, items=tuple(self._items(depth)), source=self._source)
        else:
            node = Node(line, pairs=self._pairs(depth), source=self._source)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str | None, line: int) -> Node:
        if anchor is None or anchor not in self._anchors:
            raise LaunchUnreadable(f"{self._source}:{line}: nothing is called &{anchor}")
        node = self._anchors[anchor]
        if node is None:
            raise LaunchUnreadable(f"{self._source}:{line}: *{anchor} stands inside itself")
        return node

    def _value(self, event: Any) -> Any:
        import yaml

        tag = event.tag
        if len(event.value) > _LONGEST_NUMBER:
            return event.value
        if tag is None or tag == "!":
            tag = self._scalars.resolve(yaml.ScalarNode, event.value, event.implicit)
        try:
            return self._scalars.construct_object(yaml.ScalarNode(tag, event.value))
        except (yaml.YAMLError, ValueError, OverflowError):
            return event.value

    def _items(self, depth: int) -> Iterator[Node]:
        import yaml

        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                return
            yield self._node(event, depth + 1)

    def _pairs(self, depth: int) -> dict[str, Node]:
        """Return a mapping; what `<<` brings in stands behind what it has itself."""
        import yaml

        own: dict[str, Node] = {}
        merged: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if key.text == "<<" and key.scalar:
                merged += value.items if value.items is not None else (value,)
            elif key.scalar:
                own[key.text] = value
        for node in merged:
            self._count(len(node.pairs or {}), node.line)
            for name, value in (node.pairs or {}).items():
                own.setdefault(name, value)
        return own

    def _count(self, more: int, line: int) -> None:
        self._nodes += more
        if self._nodes > _MOST_NODES:
            raise LaunchUnreadable(f"{self._source}:{line}: more than {_MOST_NODES} values")
