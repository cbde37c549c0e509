"""Python programs: the arguments of `LLM(...)` and of vLLM's engine arguments, by syntax tree.

Constants are followed through simple names, dictionaries given by `**`, and `os.environ.get(name, default)`.
What the program computes is not known, and said so.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

from msgspec import structs

from cudadoctor.facts.launch import Given, Launch, Refused
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.texts import LaunchUnreadable, Word

_CALLED = frozenset(("LLM", "AsyncEngineArgs", "EngineArgs"))
_POSITIONAL = ("model",)  #: every other argument of LLM is a keyword
_DEEPEST, _MOST = 20, 50
#: What may be run or not, or more than once.
_CONDITIONAL = (ast.If, ast.IfExp, ast.BoolOp, ast.For, ast.While, ast.Try, ast.FunctionDef,
                ast.AsyncFunctionDef, ast.Lambda, ast.Match)  # fmt: skip
_CHANGING = frozenset(("update", "pop", "setdefault", "clear", "popitem"))
_COMPUTED = ast.Name("…")  #: stands for what a loop or a caller gives


class _Unknown(Exception):
    """The value comes about only when the program runs; the text says from what."""


def read_python(draft: Draft, text: str, path: str) -> Launch:
    """Return the launch of the first engine that a program makes; raise LaunchUnreadable with the line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except SyntaxError as error:
        raise LaunchUnreadable(f"{path}:{error.lineno or 1}: no valid Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise LaunchUnreadable(f"{path}: too deeply nested to be read") from None
    reader = _Reader(draft, tree, path)
    calls = reader.calls()
    if not calls:
        return draft.other(
            [Word("python", path), Word(path, path)], f"{path} makes no vLLM engine that could be read"
        )
    launches = [reader.launch(call) for call in calls[:_MOST]]
    if len(launches) == 1:
        return launches[0]
    from cudadoctor.launch.several import common, first_of

    several = common if id(calls[0]) in reader.conditional else first_of
    return several(launches, f"{path}:{calls[1].lineno}", "engines are made")


class _Reader:
    def __init__(self, draft: Draft, tree: ast.Module, path: str) -> None:
        self.draft, self.path = draft, path
        self.names: dict[str, str] = {}  #: what vLLM's classes are called here
        self.modules: set[str] = set()
        self.assigned: dict[str, list[ast.expr]] = {}
        self.found: list[ast.Call] = []
        self.changed: set[str] = set()  #: dictionaries that are changed after they were made
        self.conditional: set[int] = set()  #: calls that may not be made
        for node in ast.walk(tree):
            self._see(node)
            if isinstance(node, _CONDITIONAL):
                self.conditional.update(id(inner) for inner in ast.walk(node) if isinstance(inner, ast.Call))

    def _see(self, node: ast.AST) -> None:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
            self.names.update({a.asname or a.name: a.name for a in node.names if a.name in _CALLED})
        elif isinstance(node, ast.Import):
            self.modules |= {
                a.asname or a.name.split(".")[0] for a in node.names if a.name.split(".")[0] == "vllm"
            }
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign(node.target, node.value)
        elif isinstance(node, (ast.AugAssign, ast.For, ast.NamedExpr)):
            self._assign(node.target, _COMPUTED)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                self.assigned.setdefault(argument.arg, []).append(_COMPUTED)
        elif isinstance(node, ast.Call):
            self.found.append(node)
            function = node.func
            if isinstance(function, ast.Attribute) and function.attr in _CHANGING:
                self.changed.add(getattr(function.value, "id", ""))
        elif isinstance(node, ast.Delete):
            self.changed.update(getattr(getattr(each, "value", None), "id", "") for each in node.targets)

    def _assign(self, target: ast.expr, expression: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.assigned.setdefault(target.id, []).append(expression)
        elif _is_environ(target):
            self._variable(target, expression)
        elif isinstance(target, ast.Subscript):
            self.changed.add(getattr(target.value, "id", ""))

    def _variable(self, target: ast.expr, expression: ast.expr) -> None:
        """Note `os.environ["NAME"] = value`."""
        assert isinstance(target, ast.Subscript)
        if isinstance(target.slice, ast.Constant) and isinstance(name := target.slice.value, str):
            origin = f"{self.path}:{target.lineno}"
            try:
                self.draft.assign(name, str(self.value(expression)), origin)
            except _Unknown as unknown:
                self.draft.note(f"{name} is set to what is not known: {unknown}", origin, "value-unknown")

    def calls(self) -> list[ast.Call]:
        """Return the calls that make an engine, or its arguments, in the order of their lines."""
        wanted = [call for call in self.found if self._is_engine(call.func)]
        return sorted(wanted, key=lambda call: (call.lineno, call.col_offset))

    def _is_engine(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Name):
            return function.id in self.names
        while isinstance(function, ast.Attribute) and isinstance(function.value, ast.Attribute):
            if function.attr not in _CALLED:
                return False
            function = ast.Attribute(function.value.value, function.attr)
        return (
            isinstance(function, ast.Attribute)
            and function.attr in _CALLED
            and isinstance(function.value, ast.Name)
            and function.value.id in self.modules
        )

    def launch(self, call: ast.Call) -> Launch:
        options: dict[str, Given] = {}
        self.partial = ""
        for argument in call.args:
            if isinstance(argument, ast.Starred):
                self._unknown_rest(argument, f"*{ast.unparse(argument.value)}")
        for name, argument in zip(_POSITIONAL, call.args, strict=False):
            self._given(options, name, argument)
        for keyword in call.keywords:
            if keyword.arg is not None:
                self._given(options, keyword.arg, keyword.value)
            else:
                self._unpacked(options, keyword.value)
        model = options.get("--model")
        refused, source = self._judged(options)
        words = [Word("python", self.path), Word(self.path, self.path)]
        return structs.replace(
            self.draft.launch("vllm-llm", words),
            options=options,
            model=model.values[-1] if model and model.values else "",
            model_origin=model.origin if model else "",
            refused=refused,
            options_from=source,
            partial=self.partial,
        )

    def _unknown_rest(self, node: ast.expr, shown: str) -> None:
        """Note that there may be more arguments than are known."""
        origin = f"{self.path}:{node.lineno}"
        said = f"{_cut(shown)} is not followed"
        self.partial = self.partial or f"there may be more options than are known: {said} at {origin}"
        self.draft.note(said, origin, "not-followed")

    def _given(self, options: dict[str, Given], name: str, expression: ast.expr) -> None:
        origin = f"{self.path}:{getattr(expression, 'lineno', 1)}"
        try:
            found = self.value(expression)
        except _Unknown as unknown:
            reason = f"{name} is known only when the program runs: {unknown}"
            self.draft.note(reason, origin, "value-unknown")
            options[f"--{name.replace('_', '-')}"] = Given((), origin, name, reason)
            return
        several = isinstance(found, (list, tuple))
        values = tuple(_text(each) for each in found) if several else (_text(found),)
        options[f"--{name.replace('_', '-')}"] = Given(values, origin, name)

    def _unpacked(self, options: dict[str, Given], expression: ast.expr) -> None:
        """Add what `**settings` brings."""
        given, shown, changed = expression, f"**{ast.unparse(expression)}", ""
        for _ in range(_DEEPEST):
            if isinstance(expression, ast.Name) and len(self.assigned.get(expression.id, ())) == 1:
                changed = expression.id if expression.id in self.changed else changed
                expression = self.assigned[expression.id][0]
        pairs = _pairs(expression)
        if pairs is None or changed:
            self._unknown_rest(given, shown)
        for name, inner in pairs or ():
            self._given(options, name, ast.Name(changed, lineno=inner.lineno) if changed else inner)

    def _judged(self, options: dict[str, Given]) -> tuple[tuple[Refused, ...], str]:
        """Return what the installed vLLM will not take, and its source."""
        from cudadoctor.launch.arguments import judged, nearest_name

        known = self.draft.options
        names = known.parameters() if known is not None else frozenset()
        if known is None or not names:
            return (), ""
        refused: list[Refused] = []
        for option, given in options.items():
            if given.spelled not in names:
                near = nearest_name(option, known)
                shown = near.removeprefix("--").replace("-", "_") if near else ""
                found: Refused | None = Refused(
                    given.spelled,
                    given.spelled,
                    given.origin,
                    "unknown",
                    nearest=shown if shown in names else "",
                )
                refused += [found] if found else []
                continue
            told = known.get(option)
            for value in (
                given.values
                if told is not None and told.kind not in ("json", "object", "lora") and told.nargs != 0
                else ()
            ):
                assert told is not None
                found = judged(told, given.spelled, Word(value, given.origin))
                refused += [found] if found else []
        return tuple(refused), known.source

    # --- values ---------------------------------------------------------------------------------------------

    def value(self, node: ast.expr, depth: int = 0) -> Any:
        """Return what an expression is worth; raise _Unknown where only running tells."""
        if depth > _DEEPEST:
            raise _Unknown("too many names in a row")
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.value(self._named(node.id), depth + 1)
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self.value(each, depth + 1) for each in node.elts]
        if isinstance(node, ast.Dict):
            pairs = _pairs(node)
            if pairs is not None:
                return {name: self.value(inner, depth + 1) for name, inner in pairs}
        if isinstance(node, ast.JoinedStr):
            return "".join(_text(self.value(_inside(part), depth + 1)) for part in node.values)
        if isinstance(node, (ast.UnaryOp, ast.BinOp)):
            return self._computed(node, depth)
        if (
            isinstance(node, (ast.Call, ast.Subscript))
            and (read := self._from_environ(node, depth)) is not None
        ):
            return read
        raise _Unknown(_shown(node))

    def _named(self, name: str) -> ast.expr:
        """Return what a name stands for; raise _Unknown where that is not one thing alone."""
        held = self.assigned.get(name, [])
        if name in self.changed:
            raise _Unknown(f"{name} is changed after it was set")
        if len(held) != 1:
            raise _Unknown(f"{name} is {'set more than once' if held else 'not set here'}")
        if held[0] is _COMPUTED:
            raise _Unknown(f"{name} changes")
        return held[0]

    def _computed(self, node: ast.UnaryOp | ast.BinOp, depth: int) -> Any:
        if isinstance(node, ast.UnaryOp):
            operand = self.value(node.operand, depth + 1)
            if isinstance(node.op, ast.USub) and isinstance(operand, (int, float)):
                return -operand
        else:
            left, right = self.value(node.left, depth + 1), self.value(node.right, depth + 1)
            if isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str):
                return (left + right)[: 1 << 16]
            if all(isinstance(side, (int, float)) and abs(side) < 1 << 50 for side in (left, right)):
                done = {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}.get(
                    type(node.op)
                )
                if done is not None:
                    return done
        raise _Unknown(_shown(node))

    def _from_environ(self, node: ast.Call | ast.Subscript, depth: int) -> str | int | float | None:
        """Return what `os.environ.get(name, default)`, `os.getenv`, `int(...)` of them read; else None."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
            kinds: dict[str, type[int] | type[float] | type[str]] = {"int": int, "float": float, "str": str}
            if (kind := kinds.get(node.func.id)) is not None:
                try:
                    return kind(self.value(node.args[0], depth + 1))
                except (TypeError, ValueError, OverflowError):
                    raise _Unknown(_shown(node)) from None
        name, default = _variable_read(node)
        if not name:
            return None
        held = self.draft.inherited(name)
        if held is None and default is not None:
            return _text(self.value(default, depth + 1))
        if held is None:
            raise _Unknown(f"{name} is not set")
        return held


def _inside(part: ast.expr) -> ast.expr:
    if isinstance(part, ast.FormattedValue):
        if part.format_spec is not None or part.conversion != -1:
            raise _Unknown("a formatted value")
        return part.value
    return part


def _pairs(node: ast.expr) -> list[tuple[str, ast.expr]] | None:
    """Return the items of a dictionary with plain texts for keys, else None."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "dict"
        and not node.args
    ):
        named = [(each.arg, each.value) for each in node.keywords if each.arg]
        return named if len(named) == len(node.keywords) else None
    if not isinstance(node, ast.Dict):
        return None
    keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
    if not all(isinstance(key, str) for key in keys):
        return None
    return [(str(key), inner) for key, inner in zip(keys, node.values, strict=True)]


def _is_environ(node: ast.AST) -> bool:
    """Return whether this is `os.environ[...]` or `environ[...]`."""
    if not isinstance(node, ast.Subscript):
        return False
    return getattr(node.value, "attr", getattr(node.value, "id", "")) == "environ"


def _variable_read(node: ast.Call | ast.Subscript) -> tuple[str, ast.expr | None]:
    """Return the variable that an expression reads, and the default it has."""
    if isinstance(node, ast.Subscript):
        key = node.slice if _is_environ(node) else None
        return (str(key.value), None) if isinstance(key, ast.Constant) else ("", None)
    function = node.func
    getting = isinstance(function, ast.Attribute) and (
        function.attr == "getenv"
        or (function.attr == "get" and _is_environ(ast.Subscript(function.value, ast.Name(""))))
    )
    getting = getting or (isinstance(function, ast.Name) and function.id == "getenv")
    if not getting or not node.args or not isinstance(node.args[0], ast.Constant):
        return "", None
    return str(node.args[0].value), node.args[1] if len(node.args) > 1 else None


def _shown(node: ast.AST) -> str:
    return _cut(ast.unparse(node))


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def _text(value: Any) -> str:
    import json

    return json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
