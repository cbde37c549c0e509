"""Annotations and defaults of vLLM's config classes, read off their syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from cudadoctor.launch.source import Found, Module, Sources

_DEEPEST = 24
_BUILTIN = frozenset(("bool", "str", "int", "float", "dict", "list", "tuple", "set"))
_COLLECTIONS = {"List": "list", "Tuple": "tuple", "Set": "set", "Dict": "dict", "Mapping": "other"}


class Unresolved:
    """Stands for a value that only running the source would tell."""

    def __repr__(self) -> str:
        return "<not known>"


UNRESOLVED = Unresolved()


class Hint(Struct, frozen=True, omit_defaults=True):
    """One of the types that an annotation allows."""

    kind: str  #: none, bool, str, int, float, dict, list, tuple, set, literal, dataclass, other
    values: tuple[Any, ...] = ()  #: of a literal; UNRESOLVED in it where not all of them are known
    count: int | None = None  #: how many elements a tuple has; None: any number


class Field(Struct, frozen=True):
    """One field of a config class, and the module that its annotation is to be read in."""

    name: str
    annotation: ast.expr
    default: ast.expr | None
    module: Module
    owner: ast.ClassDef


def fields(sources: Sources, found: Found, depth: int = 0) -> dict[str, Field]:
    """Return the dataclass fields of a class, those of its bases first."""
    own: dict[str, Field] = {}
    if not isinstance(found.node, ast.ClassDef) or depth > _DEEPEST:
        return own
    for base in found.node.bases:
        parent = sources.find(found.module, base.id) if isinstance(base, ast.Name) else None
        if parent is not None:
            own.update(fields(sources, parent, depth + 1))
    for node in found.node.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            head = _head(node.annotation)
            if head not in ("ClassVar", "InitVar"):
                field = Field(node.target.id, node.annotation, node.value, found.module, found.node)
                own[field.name] = field
    return own


def hints(sources: Sources, node: ast.expr, module: Module, depth: int = 0) -> Iterator[Hint]:
    """Yield the types that an annotation allows, as they are when vLLM runs."""
    if depth > _DEEPEST:
        yield Hint("other")
    elif isinstance(node, ast.BinOp):
        yield from hints(sources, node.left, module, depth + 1)
        yield from hints(sources, node.right, module, depth + 1)
    elif isinstance(node, ast.Constant):
        yield Hint("none" if node.value is None else "other")
    elif isinstance(node, ast.Name):
        yield from _named(sources, node.id, module, depth)
    elif isinstance(node, ast.Subscript):
        yield from _subscript(sources, node, module, depth)
    else:
        yield Hint("other")


def _named(sources: Sources, name: str, module: Module, depth: int) -> Iterator[Hint]:
    if name in module.names or name not in (*_BUILTIN, *_COLLECTIONS):
        found = sources.find(module, name)
        if found is None:
            yield Hint("other")
        elif isinstance(found.node, ast.ClassDef):
            yield Hint(_class_kind(found.node))
        elif isinstance(found.node, ast.expr) and not isinstance(found.node, ast.Call):
            yield from hints(sources, found.node, found.module, depth + 1)
        else:
            yield Hint("other")
    else:
        yield Hint(_COLLECTIONS.get(name, name))


def _class_kind(node: ast.ClassDef) -> str:
    decorators = {_head(each.func if isinstance(each, ast.Call) else each) for each in node.decorator_list}
    if decorators & {"config", "dataclass"}:
        return "dataclass"
    bases = {_head(base) for base in node.bases}
    return "dict" if bases & {"dict", "TypedDict"} else "other"


def _subscript(sources: Sources, node: ast.Subscript, module: Module, depth: int) -> Iterator[Hint]:
    head = _head(node.value)
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if head == "Literal":
        yield Hint("literal", tuple(_literals(sources, inner, module)))
    elif head in ("Optional", "Union"):
        for each in inner:
            yield from hints(sources, each, module, depth + 1)
        if head == "Optional":
            yield Hint("none")
    elif head in ("Annotated", "SkipValidation"):
        yield from hints(sources, inner[0], module, depth + 1)
    else:
        kind = _COLLECTIONS.get(head, head)
        if kind == "tuple":
            open_ended = any(isinstance(e, ast.Constant) and e.value is Ellipsis for e in inner)
            yield Hint(
                "tuple", tuple(_elements(sources, inner[0], module)), None if open_ended else len(inner)
            )
        elif kind in ("list", "set"):
            yield Hint(kind, tuple(_elements(sources, inner[0], module)))
        else:
            yield Hint(kind if kind in _BUILTIN else "other")


def _elements(sources: Sources, node: ast.expr, module: Module) -> Iterator[Any]:
    """Yield the values that a collection's elements may have, where they are literals."""
    for hint in hints(sources, node, module):
        if hint.kind == "literal":
            yield from hint.values


def _literals(sources: Sources, nodes: list[ast.expr], module: Module) -> Iterator[Any]:
    for node in nodes:
        if isinstance(node, ast.Constant):
            yield node.value
        elif isinstance(node, ast.Name) and (found := sources.find(module, node.id)) is not None:
            inner = found.node.slice if isinstance(found.node, ast.Subscript) else None
            nested = inner.elts if isinstance(inner, ast.Tuple) else [inner] if inner is not None else []
            yield from _literals(sources, [e for e in nested if isinstance(e, ast.expr)], found.module)
        else:
            yield UNRESOLVED


def _head(node: ast.AST) -> str:
    if isinstance(node, ast.Subscript):
        return _head(node.value)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


# --- values -------------------------------------------------------------------------------------------------


def value(
    sources: Sources, node: ast.AST | None, module: Module, depth: int = 0, owner: ast.ClassDef | None = None
) -> Any:
    """Return what an expression is worth: constants, lists of them, names, attributes of config classes.

    `owner`: the class in whose body it stands. UNRESOLVED for everything else.
    """
    if depth > _DEEPEST or node is None:
        return UNRESOLVED
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = value(sources, node.operand, module, depth + 1)
        return -number if isinstance(number, (int, float)) else UNRESOLVED
    if isinstance(node, ast.BinOp):
        return _arithmetic(sources, node, module, depth)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return _sequence(sources, node, module, depth)
    if isinstance(node, ast.Dict):
        return {} if not node.keys else UNRESOLVED
    if isinstance(node, ast.Name):
        if owner is not None and (own := _in_body(owner, node.id)) is not None:
            return value(sources, own, module, depth + 1, owner)
        found = sources.find(module, node.id)
        return UNRESOLVED if found is None else value(sources, found.node, found.module, depth + 1)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return _attribute(sources, node.value.id, node.attr, module, depth)
    return _call(sources, node, module, depth, owner) if isinstance(node, ast.Call) else UNRESOLVED


def _in_body(owner: ast.ClassDef, name: str) -> ast.expr | None:
    """Return what a class assigns to a name in its own body."""
    for node in owner.body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return getattr(node, "value", None)
    return None


def _sequence(sources: Sources, node: ast.List | ast.Tuple | ast.Set, module: Module, depth: int) -> Any:
    elements: list[Any] = []
    for each in node.elts:
        if isinstance(each, ast.Starred):
            inner = value(sources, each.value, module, depth + 1)
            if isinstance(inner, Unresolved):
                return UNRESOLVED
            elements.extend(inner)
        else:
            elements.append(value(sources, each, module, depth + 1))
    return UNRESOLVED if any(isinstance(e, Unresolved) for e in elements) else elements


def _arithmetic(sources: Sources, node: ast.BinOp, module: Module, depth: int) -> Any:
    left = value(sources, node.left, module, depth + 1)
    right = value(sources, node.right, module, depth + 1)
    if not all(isinstance(side, (int, float)) and abs(side) < 1 << 40 for side in (left, right)):
        return UNRESOLVED
    if isinstance(node.op, ast.Pow):
        return (
            left**right
            if isinstance(left, int) and isinstance(right, int) and 0 <= right < 64
            else UNRESOLVED
        )
    done: dict[type[ast.operator], Any] = {
        ast.Mult: left * right,
        ast.Add: left + right,
        ast.Sub: left - right,
    }
    return done.get(type(node.op), UNRESOLVED)


def _attribute(sources: Sources, owner: str, name: str, module: Module, depth: int) -> Any:
    """Return the default of `ModelConfig.model`, or the value of an enum's member."""
    found = sources.find(module, owner)
    if found is None or not isinstance(found.node, ast.ClassDef):
        return UNRESOLVED
    field = fields(sources, found).get(name)
    if field is not None:
        return default(sources, field, depth + 1)
    return value(sources, _in_body(found.node, name), found.module, depth + 1, found.node)


def default(sources: Sources, field: Field, depth: int = 0) -> Any:
    """Return a field's default, through `field(...)`, `Field(...)` and `get_field(Class, "name")`."""
    return value(sources, field.default, field.module, depth, field.owner)


_FACTORIES: dict[str, Any] = {"list": list, "dict": dict, "set": list, "tuple": list}


def _call(sources: Sources, node: ast.Call, module: Module, depth: int, owner: ast.ClassDef | None) -> Any:
    head = _head(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    if head in ("field", "Field"):
        if "default" in keywords or node.args:
            return value(sources, keywords.get("default") or node.args[0], module, depth + 1, owner)
        factory = keywords.get("default_factory")
        if isinstance(factory, ast.Lambda):
            return value(sources, factory.body, module, depth + 1)
        made = _FACTORIES.get(_head(factory)) if factory is not None else None
        return made() if made else UNRESOLVED
    if head == "get_field" and len(node.args) == 2 and isinstance(node.args[0], ast.Name):
        name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
        return _attribute(sources, node.args[0].id, str(name), module, depth)
    if head in ("list", "tuple", "sorted") and len(node.args) == 1:
        inner = value(sources, node.args[0], module, depth + 1)
        return sorted(inner) if head == "sorted" and isinstance(inner, list) else inner
    if head == "get_args" and len(node.args) == 1:
        literal = [hint for hint in hints(sources, node.args[0], module) if hint.kind == "literal"]
        return list(literal[0].values) if literal else UNRESOLVED
    return UNRESOLVED


def bounds(field: Field) -> dict[str, float]:
    """Return the limits that pydantic's `Field(gt=0, le=1)` sets."""
    found: dict[str, float] = {}
    for call in ast.walk(field.default) if isinstance(field.default, ast.Call) else ():
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            limit = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if keyword.arg in ("gt", "ge", "lt", "le") and isinstance(limit, (int, float)):
                found[keyword.arg] = limit
    return found


def members(sources: Sources, node: ast.expr, module: Module) -> list[Any] | None:
    """Return the values of an enum's members, or None where the name stands for no enum."""
    found = sources.find(module, node.id) if isinstance(node, ast.Name) else None
    if found is None or not isinstance(found.node, ast.ClassDef):
        return None
    assigned = [each for each in found.node.body if isinstance(each, ast.Assign)]
    values = [value(sources, each.value, found.module) for each in assigned]
    return None if not values or any(isinstance(each, Unresolved) for each in values) else values
