"""JSON values in the shape of a type, and values that were right and are changed here and there."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw, inspect

from benchmarks.fuzz.odd import RAW, among, numbers, texts

_DEEPEST = 12  #: levels of a type that are filled


def shaped(kind: inspect.Type, level: int = 0) -> st.SearchStrategy[Any]:
    """Return a strategy for JSON values that a reader of this type takes."""
    if (leaf := _LEAVES.get(type(kind))) is not None:
        return leaf
    match kind:
        case inspect.StructType():
            return _struct(kind, level)
        case inspect.UnionType(types=types):
            return st.one_of([shaped(each, level + 1) for each in types])
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return st.lists(shaped(item, level + 1), max_size=0 if level > _DEEPEST else 3)
        case inspect.TupleType(item_types=items):
            return st.tuples(*[shaped(each, level + 1) for each in items]).map(list)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(shaped(key, level + 1), shaped(value, level + 1), max_size=3)
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.EnumType(cls=cls):
            return st.sampled_from([each.value for each in cls])
    return anything()


_LEAVES: dict[type, st.SearchStrategy[Any]] = {
    inspect.BoolType: st.booleans(),
    inspect.NoneType: st.none(),
    inspect.IntType: numbers().map(int),
    inspect.FloatType: numbers(),
    inspect.StrType: texts(),
}


def _struct(kind: inspect.StructType, level: int) -> st.SearchStrategy[Any]:
    fields = {each.encode_name: each for each in kind.fields}
    wanted = {name: shaped(each.type, level + 1) for name, each in fields.items() if each.required}
    free = {name: shaped(each.type, level + 1) for name, each in fields.items() if not each.required}
    made = st.fixed_dictionaries(wanted, optional=free)
    if kind.tag_field is None:
        return made
    return made.map(lambda value: {kind.tag_field: kind.tag, **value})


def anything() -> st.SearchStrategy[Any]:
    """Return a strategy for JSON of any shape."""
    leaf = st.one_of(st.none(), st.booleans(), numbers(), texts(), among(RAW))
    return st.recursive(
        leaf,
        lambda held: st.lists(held, max_size=4) | st.dictionaries(texts(), held, max_size=4),
        max_leaves=12,
    )


class Pool:
    """What stands under each key in many right values."""

    def __init__(self, values: Sequence[Any], most: int = 200) -> None:
        self._found: dict[str, dict[bytes, None]] = {}
        self._most = most
        for value in values:
            self._take(value)

    def _take(self, value: Any) -> None:
        if isinstance(value, list):
            for item in value[:50]:
                self._take(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                held = self._found.setdefault(key, {})
                if len(held) < self._most and len(data := msgspec.json.encode(item)) < 4000:
                    held[data] = None
                self._take(item)

    def under(self, key: str) -> Sequence[bytes]:
        """Return the JSON of what was seen under a key."""
        return list(self._found.get(key, {}))

    def keys(self) -> Sequence[str]:
        """Return every key."""
        return list(self._found)


class Mutator:
    """Changes a right value in some places."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._keys = pool, pool.keys()

    def change(self, draw: st.DrawFn, value: dict[str, Any], most: int = 5) -> None:
        """Change up to `most` places of an object in place."""
        for _ in range(draw(st.integers(0, most))):
            places = _places(value)
            if not places:
                return
            holder, key = places[draw(st.integers(0, len(places) - 1))]
            old = holder[key]
            new = self._other(draw, old, key if isinstance(key, str) else "")
            if new is _GONE:
                del holder[key]
            else:
                holder[key] = new

    def _other(self, draw: st.DrawFn, old: Any, key: str) -> Any:
        kind = draw(st.integers(0, 39))
        if kind == 0:
            return _GONE
        if kind == 1:
            return draw(anything())
        if kind == 2:
            return draw(among(RAW))
        if kind <= 12 and (seen := self._pool.under(key)):
            return msgspec.json.decode(draw(among(seen)))
        if kind == 13:
            seen = self._pool.under(draw(among(self._keys)))
            return msgspec.json.decode(draw(among(seen))) if seen else None
        match old:
            case bool():
                return not old
            case str():
                return self._text(draw, old)
            case int() | float():
                return draw(numbers())
            case list():
                return _list(draw, old)
            case dict():
                return _object(draw, old)
        return draw(st.one_of(texts(), numbers(), st.booleans()))

    def _text(self, draw: st.DrawFn, old: str) -> str:
        odd = draw(texts())
        match draw(st.integers(0, 4)):
            case 0:
                at = draw(st.integers(0, len(old)))
                return old[:at] + odd + old[at:]
            case 1:
                return old[: draw(st.integers(0, len(old)))]
            case 2:
                return old + odd
        return str(odd)


_GONE = object()


def _places(value: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Return every place in a value: what holds it, and the key or index."""
    found: list[tuple[Any, Any]] = []
    open_: list[Any] = [value]
    while open_:
        holder = open_.pop()
        inside: Iterator[Any] = (
            iter(holder) if isinstance(holder, dict) else iter(range(min(len(holder), 40)))
        )
        for key in inside:
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                open_.append(holder[key])
    return found


def _list(draw: st.DrawFn, old: list[Any]) -> list[Any]:
    match draw(st.integers(0, 4)):
        case 0:
            return []
        case 1:
            return old[::-1]
        case 2:
            return old * draw(st.sampled_from((2, 3, 100)))
        case 3:
            return old[: draw(st.integers(0, len(old)))]
    return [*old, draw(anything())]


def _object(draw: st.DrawFn, old: dict[str, Any]) -> Any:
    match draw(st.integers(0, 3)):
        case 0:
            return {}
        case 1:
            try:
                inside = msgspec.json.encode(old)[1:-1]
            except TypeError:
                return {}
            return Raw(b"{" + inside + b"," + inside + b"}") if inside else old
        case 2:
            return {**old, draw(texts()): draw(anything())}
    if not old:
        return old
    name = list(old)[draw(st.integers(0, len(old) - 1))]
    return {(draw(texts()) if key == name else key): item for key, item in old.items()}


def written(value: Any) -> bytes:
    """Return the JSON of a value, with the odd pieces in it as they are."""
    return msgspec.json.encode(value)


def spoiled(draw: st.DrawFn, data: bytes) -> bytes:
    """Return a text cut short, or with a few bytes changed."""
    at = draw(st.integers(0, len(data)))
    if draw(st.booleans()):
        return data[:at]
    rng = random.Random(draw(st.integers(0, 2**32)))
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.choice(b'{}[]",:\\\x00\xff09eE-.tfn \n')
    return bytes(changed)


def smaller(value: Any, fails: Callable[[Any], bool], seconds: float = 20.0) -> Any:
    """Return a value with as much left out of it as can be while it still fails, in about so much time."""
    end = time.monotonic() + seconds
    changed = True
    while changed and time.monotonic() < end:
        changed = False
        for path in _paths(value):
            for less in _less(value, path):
                if time.monotonic() < end and fails(less):
                    value, changed = less, True
                    break
    return value


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in a value, what holds more before what is in it."""
    if not isinstance(value, (dict, list)):
        return
    inside = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, _ in inside:
        yield (*path, key)
    for key, item in inside:
        yield from _paths(item, (*path, key))


def _less(value: Any, path: tuple[Any, ...]) -> Iterator[Any]:
    """Yield values with what is at the end of a path left out, or made less; none where it is gone."""
    key, rest = path[0], path[1:]
    if not (key in value if isinstance(value, dict) else isinstance(value, list) and key < len(value)):
        return
    if rest:
        if isinstance(value[key], (dict, list)):
            yield from (_with(value, key, less) for less in _less(value[key], rest))
        return
    yield _without(value, key)
    item = value[key]
    if isinstance(item, str) and len(item) > 1:
        for less in (item[: len(item) // 2], item[len(item) // 2 :], item[1:], item[:-1], ""):
            yield _with(value, key, less)
    elif isinstance(item, list) and len(item) > 2:
        yield _with(value, key, item[: len(item) // 2])
        yield _with(value, key, item[len(item) // 2 :])


def _with(value: Any, key: Any, item: Any) -> Any:
    if isinstance(value, dict):
        return {**value, key: item}
    return [*value[:key], item, *value[key + 1 :]]


def _without(value: Any, key: Any) -> Any:
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if name != key}
    return [*value[:key], *value[key + 1 :]]
