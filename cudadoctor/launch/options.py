"""The options of the installed vLLM, read off the functions that build its parser.

`add_cli_args` is gone through statement by statement: which option strings it registers, and of which field
of which config class. What a field's annotation and default make of an option is looked up only when the
option is asked for. Judged by vLLM's real parser (0.12.0), and on the sources of 0.6.6 to 0.33.0.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from cudadoctor.host import Host
from cudadoctor.launch import hints
from cudadoctor.launch.hints import UNRESOLVED, Field, Hint, Unresolved
from cudadoctor.launch.source import Found, Module, Sources

_KEPT = frozenset(
    ("add_cli_args", "make_arg_parser", "_customize_cli_kwargs", "_compute_kwargs", "get_kwargs")
)
_PARSERS = ("vllm.entrypoints.openai.cli_args", "vllm.entrypoints.common.cli_args",
            "vllm.entrypoints.launchers.cli_args")  # fmt: skip
_ENGINE = "vllm.engine.arg_utils"
_PLAIN_JSON = re.compile(
    r"contains_type\(type_hints, dict\):\s+kwargs\[name\]\[.type.\] = (?:parse|optional)_type\(json\.loads\)"
)
#: `validate_parsed_serve_args`: what is refused before anything is loaded.
_NEEDS = re.compile(r"if args\.(\w+) and not args\.(\w+):\s+raise TypeError")
_DEEPEST = 12  #: functions that call each other, classes that are made of each other


class Option(Struct, frozen=True, omit_defaults=True):
    """One option of the parser."""

    name: str  #: the long name that stands for it: "--max-model-len"
    names: tuple[str, ...]  #: every string that it is known by
    off: tuple[str, ...] = ()  #: those of them that turn a flag off
    nargs: int | str | None = None  #: as argparse has it: None one value, 0 a flag, "?", "+", "*"
    kind: str = "text"  #: text, int, float, human (32k), human-or-auto, json, object, lora, unknown
    choices: tuple[str, ...] | None = None  #: what the parser takes; None: anything of its kind
    suggested: tuple[str, ...] = ()  #: what it names, without refusing the rest there
    default: Any = UNRESOLVED
    limits: dict[str, float] = {}  #: gt, ge, lt, le: refused later, when the config is made
    appends: bool = False
    deprecated: bool = False
    strict: bool = False  #: of json and object: the parser takes nothing else
    checked: bool = False  #: whether what stands for no value must be among the choices
    empty: bool = True  #: whether it takes "" and "None", which stand for no value


class Options:
    """What the installed vLLM takes, for its server and for `LLM(...)`."""

    def __init__(self, specs: dict[str, _Spec], sources: Sources, rules: _Rules) -> None:
        self._specs, self._sources, self._rules = specs, sources, rules
        self._resolved: dict[int, Option] = {}
        self.source = f"{sources.root}/engine/arg_utils.py"

    def __iter__(self) -> Iterator[str]:
        """Yield every option string, which takes looking at every option."""
        for string in self._specs:
            option = self.get(string)
            if option is not None and option.names[0] == string:
                yield from option.names

    def get(self, string: str) -> Option | None:
        """Return the option that this string stands for, or None; abbreviations are not looked at."""
        spec = self._specs.get(string)
        if spec is None:
            for turned in (_without_no(string), _paired(string) if self._rules.ways["pairs"] else ""):
                option = self.get(turned) if turned and turned in self._specs else None
                if option is not None and string in option.off:
                    return option
            return None
        if id(spec) not in self._resolved:
            self._resolved[id(spec)] = _resolve(spec, self._sources, self._rules)
        return self._resolved[id(spec)]

    def default(self, name: str) -> Any:
        """Return an option's default, UNRESOLVED where it has none or the source does not tell it."""
        option = self.get(name)
        return UNRESOLVED if option is None else option.default

    @property
    def has(self) -> Mapping[str, bool]:
        """Return the parser's own ways, by name: see `_Rules`."""
        return self._rules.ways

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        """Return pairs of options of which the first is refused without the second."""
        return self._rules.needs

    def parameters(self) -> frozenset[str]:
        """Return the names that `LLM(...)` and the engine's arguments take; none where they are not known."""
        module = self._sources.module(_ENGINE)
        found = self._sources.find(module, "AsyncEngineArgs") if module else None
        if found is None:
            return frozenset()
        names = set(hints.fields(self._sources, found))
        text = self._sources.text("entrypoints/llm.py")
        own = _constructor(text)
        return frozenset(names | own) if names and own else frozenset()


class _Rules(Struct, frozen=True):
    """What differs between releases in how annotations become options."""

    needs: tuple[tuple[str, str], ...]  #: options that are refused without another one
    human: str  #: the source of the function that does it: names of fields that take 32k stand in it
    ways: dict[str, bool]


class _Spec:
    """An option as it is registered: a field of a config class, and what is changed about it."""

    def __init__(self, kwargs: _Kwargs | None, key: str, names: tuple[str, ...] = ()) -> None:
        self.kwargs, self.key, self.names = kwargs, key, names
        self.changes: dict[str, tuple[ast.expr | None, Module]] = {}
        self.removed: set[str] = set()
        self.more_choices = False
        self.in_pairs = False  #: two of the choices are one too, with a comma between them

    @property
    def field(self) -> Field | None:
        """Return the field, which its class is read for."""
        return None if self.kwargs is None else self.kwargs.fields.get(self.key)

    def copied(self) -> _Spec:
        other = _Spec(self.kwargs, self.key, self.names)
        other.changes, other.removed = dict(self.changes), set(self.removed)
        other.more_choices, other.in_pairs = self.more_choices, self.in_pairs
        return other


class _Kwargs:
    """What `get_kwargs(Class)` returns: specs by field, made when they are asked for."""

    def __init__(self, sources: Sources, module: Module, name: str, found: Found | None) -> None:
        self._sources, self._module, self._name, self._found = sources, module, name, found
        self._fields: dict[str, Field] | None = None
        self._specs: dict[str, _Spec] = {}

    @property
    def fields(self) -> dict[str, Field]:
        """Return the fields of the class, whose module may first have to be found."""
        if self._fields is None:
            found = self._found or self._sources.find(self._module, self._name)
            self._fields = hints.fields(self._sources, found) if found else {}
        return self._fields

    def spec(self, name: str) -> _Spec:
        if name not in self._specs:
            self._specs[name] = _Spec(self, name)
        return self._specs[name]


def read(host: Host, location: str) -> Options | None:
    """Return the options of the vLLM in this site-packages folder; None where its source is not as known."""
    sources = Sources(host, f"{location}/vllm", _KEPT)
    for name in _PARSERS:
        module = sources.module(name)
        function = module.names.get("make_arg_parser") if module else None
        if module is not None and isinstance(function, ast.FunctionDef):
            walk = _Walk(sources)
            walk.function(function, module, None, {})
            engine = sources.module(_ENGINE)
            if "--model" in walk.specs and engine is not None:
                return Options(walk.specs, sources, _rules(sources, engine))
    return None


def _rules(sources: Sources, engine: Module) -> _Rules:
    start = max(engine.text.find("def _compute_kwargs("), engine.text.find("def get_kwargs("), 0)
    if "def _compute_kwargs(" in engine.text:
        start = engine.text.find("def _compute_kwargs(")
    body = engine.text[start : engine.text.find("\n@", start)]
    parser = "".join(
        sources.text(path) for path in ("utils/argparse_utils.py", "utils/__init__.py", "utils.py")
    )
    ways = {
        "optional-text": "{bool, str, type(None)}" in body,
        "literal-or-text": 'contains_type(type_hints, str) else "choices"' in engine.text,
        "pairs": "class EnableDisableAction" in parser,
        "level": '"--optimization-level"' in parser,
        "level-dotted": "-O.level" in parser,
        "model-refused": bool(re.search(r"raise ValueError\(\s*['\"]With `vllm serve`, you should", parser)),
        "config-equals": "--config=" in parser,
        "config-nested": bool(re.search(r"isinstance\(value, dict\):[^:]{0,200}\"--\" \+ key", parser)),
        "config-no": 'f"--no-{key}"' in parser,
        "dotted": "recursive_dict_update" in parser,
        "auto-length": "human_readable_int_or_auto" in engine.text,
        "model-moved": "model_tag = args[model_idx + 1]" in parser,
        "json": bool(_PLAIN_JSON.search(body)),
        "object": "validate_json(val)" in body and "from_cli" not in body,
        #: None is a value there, and its name alone among the choices: neither is taken.
        "choices-without-none": '["choices"].append("None")' in body,
        "optional-alone": "if type(None) in type_hints and not contains_type(type_hints, bool):" in body,
    }
    validated = "".join(sources.text(f"{name.partition('.')[2].replace('.', '/')}.py") for name in _PARSERS)
    needs = tuple((_spelled(one), _spelled(two)) for one, two in _NEEDS.findall(validated))
    return _Rules(needs, body, ways)


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _constructor(text: str) -> set[str]:
    """Return the parameters of `LLM.__init__`."""
    start = text.find("\nclass LLM")
    start = text.find("    def __init__(", start) if start >= 0 else -1
    end = text.find("    ) -> None:", start)
    if start < 0 or end < 0:
        return set()
    try:
        (node,) = ast.parse("class LLM:\n" + text[start:end] + "    ): pass").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    (function,) = (each for each in ast.walk(node) if isinstance(each, ast.FunctionDef))
    arguments = function.args
    return {each.arg for each in (*arguments.args, *arguments.kwonlyargs)} - {"self"}


# --- going through the functions ----------------------------------------------------------------------------


class _Walk:
    """Goes through the functions that register options, and follows the calls between them."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.specs: dict[str, _Spec] = {}
        self._depth = 0

    def function(
        self, node: ast.FunctionDef, module: Module, owner: Found | None, bound: dict[str, Any]
    ) -> None:
        """Go through one function; `owner`: the class that `cls` stands for; `bound`: its arguments."""
        self._depth += 1
        if self._depth < _DEEPEST:
            _Frame(self, module, owner, bound).run(node.body)
        self._depth -= 1

    def method(self, owner: Found, name: str, bound: list[Any], after: str = "") -> None:
        """Call a class's method, or the one of the class behind `after` in its line of bases."""
        for found in self._line(owner, bool(after), after):
            assert isinstance(found.node, ast.ClassDef)
            for node in found.node.body:
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    names = [arg.arg for arg in node.args.args if arg.arg not in ("cls", "self")]
                    inner = _Frame(self, found.module, owner, dict(zip(names, bound, strict=False)))
                    inner.writes_in = found.node.name
                    self._depth += 1
                    if self._depth < _DEEPEST:
                        inner.run(node.body)
                    self._depth -= 1
                    return

    def _line(self, found: Found, behind: bool, after: str, depth: int = 0) -> Iterator[Found]:
        """Yield a class and its bases; `behind`: only those that come after the class called `after`."""
        if not isinstance(found.node, ast.ClassDef) or depth > _DEEPEST:
            return
        if not behind:
            yield found
        for base in found.node.bases:
            parent = self.sources.find(found.module, base.id) if isinstance(base, ast.Name) else None
            if parent is not None:
                yield from self._line(parent, behind and found.node.name != after, after, depth + 1)

    def register(self, names: tuple[str, ...], spec: _Spec) -> None:
        """Register an option, as the parser would: the last of a name counts."""
        spec.names = names
        for name in names:
            self.specs[name] = spec


class _Frame:
    """One function that is gone through: its local names."""

    def __init__(self, walk: _Walk, module: Module, owner: Found | None, local: dict[str, Any]) -> None:
        self.walk, self.module, self.owner, self.local = walk, module, owner, local
        self.writes_in = ""  #: the class in which the method stands

    def run(self, body: list[ast.stmt]) -> None:
        for node in body:
            self._statement(node)

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            held = self._held(node.value)
            for target in node.targets:
                self._assign(target, held, node.value)
        elif isinstance(node, ast.AugAssign):
            spec, key = self._place(node.target)
            if spec is not None and key == "choices":
                spec.in_pairs = _pairing(node.value)
                spec.more_choices = not spec.in_pairs
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                spec, key = self._place(target)
                if spec is not None:
                    spec.changes.pop(key, None)
                    spec.removed.add(key)
        elif isinstance(node, (ast.Expr, ast.Return)) and node.value is not None:
            self._held(node.value)
        elif isinstance(node, ast.If):
            self.run(node.body)
            self.run(node.orelse)
        elif isinstance(node, (ast.For, ast.With, ast.Try)):
            self._block(node)

    def _block(self, node: ast.For | ast.With | ast.Try) -> None:
        if not isinstance(node, ast.For):
            self.run(node.body)
            return
        iterated = node.iter
        if isinstance(iterated, ast.Call) and isinstance(iterated.func, ast.Attribute):
            kwargs = self._held(iterated.func.value)
            if isinstance(kwargs, _Kwargs) and any(
                isinstance(each, ast.Attribute) and each.attr == "add_argument" for each in ast.walk(node)
            ):
                for name in kwargs.fields:
                    spec = kwargs.spec(name)
                    self.walk.register((*self._flags(spec), f"--{name.replace('_', '-')}"), spec)

    def _flags(self, spec: _Spec) -> list[str]:
        expression, module = spec.changes.pop("flags", (None, self.module))
        flags = hints.value(self.walk.sources, expression, module)
        return [str(flag) for flag in flags] if isinstance(flags, list) else []

    def _assign(self, target: ast.expr, held: Any, expression: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.local[target.id] = held
        else:
            spec, key = self._place(target)
            if spec is not None:
                spec.changes[key] = (expression, self.module)
                spec.removed.discard(key)

    def _place(self, target: ast.expr) -> tuple[_Spec | None, str]:
        """Return which spec and which keyword `kwargs["field"]["keyword"]` are."""
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            held = self._held(target.value)
            if isinstance(held, _Spec):
                return held, str(target.slice.value)
        return None, ""

    def _held(self, node: ast.expr) -> _Kwargs | _Spec | None:
        """Return the options that an expression stands for, and do what calls in it do."""
        if isinstance(node, ast.Name):
            found = self.local.get(node.id)
            return found if isinstance(found, (_Kwargs, _Spec)) else None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            held = self._held(node.value)
            return held.spec(str(node.slice.value)) if isinstance(held, _Kwargs) else None
        if isinstance(node, ast.Dict):
            return self._merged(node)
        return self._call(node) if isinstance(node, ast.Call) else None

    def _merged(self, node: ast.Dict) -> _Spec | None:
        """Return `{**kwargs["field"], "default": None}`."""
        spec: _Spec | None = None
        for key, expression in zip(node.keys, node.values, strict=True):
            if key is None:
                held = self._held(expression)
                spec = held.copied() if isinstance(held, _Spec) else spec
            elif spec is not None and isinstance(key, ast.Constant):
                spec.changes[str(key.value)] = (expression, self.module)
        return spec

    def _call(self, node: ast.Call) -> _Kwargs | _Spec | None:
        function = node.func
        if isinstance(function, ast.Name):
            if function.id == "get_kwargs" and node.args and isinstance(named := node.args[0], ast.Name):
                found = self.owner if named.id == "cls" else None
                return _Kwargs(self.walk.sources, self.module, named.id, found)
            return None
        if not isinstance(function, ast.Attribute):
            return None
        if function.attr == "add_argument":
            self._add_argument(node)
        elif function.attr in ("add_cli_args", "_customize_cli_kwargs"):
            return self._method(node, function)
        elif function.attr in ("remove", "append", "extend"):
            spec, key = self._place(function.value)
            if spec is not None and key == "choices":
                spec.more_choices = True
        return None

    def _method(self, node: ast.Call, function: ast.Attribute) -> _Kwargs | _Spec | None:
        bound = [self._held(argument) for argument in node.args]
        if isinstance(function.value, ast.Call) and self.owner is not None:  # super()
            self.walk.method(self.owner, function.attr, bound, self.writes_in)
        elif (found := self._class(function.value)) is not None:
            self.walk.method(found, function.attr, bound)
        return bound[0] if bound else None

    def _class(self, node: ast.expr) -> Found | None:
        if not isinstance(node, ast.Name):
            return None
        return self.owner if node.id == "cls" else self.walk.sources.find(self.module, node.id)

    def _add_argument(self, node: ast.Call) -> None:
        names = tuple(
            arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        )
        spec = _Spec(None, "")
        for keyword in node.keywords:
            if keyword.arg is None:
                held = self._held(keyword.value)
                if isinstance(held, _Spec):
                    changes = spec.changes
                    spec = held.copied()
                    spec.changes.update(changes)
        for keyword in node.keywords:
            if keyword.arg is not None:
                spec.changes[keyword.arg] = (keyword.value, self.module)
        if names and all(name.startswith("-") for name in names):
            self.walk.register(names, spec)


def _pairing(node: ast.expr) -> bool:
    """Return whether this is `[",".join(p) for p in permutations(..., r=2)]`."""
    return bool(
        re.fullmatch(r"\['?,'?\.join\((\w+)\) for \1 in permutations\(.*, r=2\)\]", ast.unparse(node))
    )


# --- what a registered option is like -----------------------------------------------------------------------

_KINDS = {
    "str": "text", "int": "int", "float": "float", "human_readable_int": "human", "nullable_str": "text",
    "human_readable_int_or_auto": "human-or-auto", "loads": "json", "union_dict_and_str": "text",
    "parse_reasoning_parser": "text", "nullable_kvs": "text",
}  # fmt: skip


def _resolve(spec: _Spec, sources: Sources, rules: _Rules) -> Option:
    found = _from_field(spec, sources, rules)
    action = _action(spec, found)
    names, off = list(spec.names), list[str]()
    if action == "boolean":
        off = [f"--no-{name[2:]}" for name in names if name.startswith("--")]
        if rules.ways["pairs"]:
            off += [paired for name in names if (paired := _paired(name))]
    flag = action in ("boolean", "store_true", "store_false", "store_const")
    long = next((name for name in names if name.startswith("--")), names[0])
    choices, suggested = _choices(spec, sources, found)
    return Option(
        long,
        (*names, *off),
        tuple(off),
        0 if flag else _nargs(spec, found),
        "lora" if action == "LoRAParserAction" else "text" if spec.in_pairs else _kind(spec, found),
        choices,
        suggested,
        _default(spec, sources, found, action),
        hints.bounds(spec.field) if spec.field else {},
        action in ("append", "extend"),
        "deprecated" in spec.changes,
        (found.strict and "type" not in spec.changes) or _typed(spec) == "loads",
        rules.ways["choices-without-none"],
        found.empty and _takes_nothing(spec),
    )


def _typed(spec: _Spec) -> str:
    """Return the name of the function that an option is registered with, "" where there is none."""
    expression = spec.changes.get("type", (None, None))[0]
    while isinstance(expression, ast.Call) and expression.args:  # optional_type(json.loads)
        expression = expression.args[0]
    return expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")


def _takes_nothing(spec: _Spec) -> bool:
    """Return whether the function that an option is registered with takes an empty text."""
    expression = spec.changes.get("type", (None, None))[0]
    return isinstance(expression, ast.Call) or _typed(spec) not in ("int", "float", "loads")


def _without_no(name: str) -> str:
    return f"--{name[5:]}" if name.startswith("--no-") else ""


def _paired(name: str) -> str:
    """Return "--disable-x" for "--enable-x", the other way round, or "" for any other name."""
    if name.startswith("--enable-"):
        return f"--disable-{name[9:]}"
    return f"--enable-{name[10:]}" if name.startswith("--disable-") else ""


class _FromField(Struct, frozen=True):
    nargs: int | str | None = None
    kind: str = "text"
    choices: tuple[Any, ...] | None = None
    suggested: tuple[Any, ...] = ()
    flag: bool = False
    default: Any = None
    strict: bool = False
    empty: bool = True


def _from_field(spec: _Spec, sources: Sources, rules: _Rules) -> _FromField:
    """Return what vLLM's `get_kwargs` makes of a field's annotation."""
    field = spec.field
    if field is None:
        return _FromField()
    default = hints.default(sources, field)
    allowed = list(hints.hints(sources, field.annotation, field.module))
    kinds = {hint.kind for hint in allowed}
    by_kind = {hint.kind: hint for hint in allowed}
    empty = "none" in kinds or not rules.ways["optional-alone"]
    if "dataclass" in kinds:
        strict = rules.ways["object"]
        return _FromField(kind="object" if strict else "json", default=default, strict=strict, empty=empty)
    if kinds == {"bool", "str", "none"} and rules.ways["optional-text"]:
        return _FromField("?", default=default)
    if "bool" in kinds:
        return _FromField(0, flag=True, default=default)
    if "literal" in kinds:
        return _of_literal(by_kind["literal"], kinds, rules, default)
    for kind in ("tuple", "list", "set"):
        if kind in kinds:
            hint = by_kind[kind]
            closed = hint.values if hint.values and UNRESOLVED not in hint.values else None
            if closed is not None and "none" in kinds and rules.ways["optional-alone"]:
                closed = (*closed, "None")
            return _FromField(
                hint.count if hint.count is not None else "+", "unknown", closed, default=default
            )
    kind = _plain(field.name, kinds, rules)
    strict = kind == "json" and rules.ways["json"]
    suggested = _for_people(field, sources)
    return _FromField(kind=kind, default=default, suggested=suggested, strict=strict, empty=empty)


def _of_literal(literal: Hint, kinds: set[str], rules: _Rules, default: Any) -> _FromField:
    values = (*literal.values, *(["None"] if "none" in kinds else []))
    kind = "int" if values and isinstance(values[0], int) else "text"
    known = not any(isinstance(value, Unresolved) for value in values)
    if not known or ("str" in kinds and rules.ways["literal-or-text"]):
        return _FromField(kind=kind, suggested=values if known else (), default=default)
    return _FromField(kind=kind, choices=values, default=default)


def _plain(name: str, kinds: set[str], rules: _Rules) -> str:
    if "int" in kinds:
        if f'"{name}"' not in rules.human:
            return "int"
        return "human-or-auto" if name == "max_model_len" and rules.ways["auto-length"] else "human"
    if "float" in kinds:
        return "float"
    if "dict" in kinds and not kinds & {"str", "other"}:
        return "json"
    return "text"


def _for_people(field: Field, sources: Sources) -> tuple[Any, ...]:
    """Return the values of an annotation that type checkers see and the parser does not."""
    for node in ast.walk(field.annotation):
        if isinstance(node, ast.Name) and node.id in field.module.typing_only:
            found = sources.find(field.module, node.id, typing_too=True)
            if found is not None and isinstance(found.node, ast.expr):
                for hint in hints.hints(sources, found.node, found.module):
                    if hint.kind == "literal" and UNRESOLVED not in hint.values:
                        return hint.values
    return ()


def _action(spec: _Spec, found: _FromField) -> str:
    expression = spec.changes.get("action", (None, None))[0]
    if expression is None:
        return "boolean" if found.flag and "action" not in spec.removed else ""
    if isinstance(expression, ast.Constant):
        return str(expression.value)
    name = expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")
    return "boolean" if name in ("BooleanOptionalAction", "EnableDisableAction") else name


def _default(spec: _Spec, sources: Sources, found: _FromField, action: str) -> Any:
    expression, module = spec.changes.get("default", (None, None))
    if expression is None or module is None:
        return found.default if spec.field else {"store_true": False, "store_false": True}.get(action)
    if isinstance(expression, ast.UnaryOp) and isinstance(expression.op, ast.Not):
        inner = hints.value(sources, expression.operand, module)
        return not inner if isinstance(inner, bool) else UNRESOLVED
    return hints.value(sources, expression, module)


def _nargs(spec: _Spec, found: _FromField) -> int | str | None:
    expression = spec.changes.get("nargs", (None, None))[0]
    if isinstance(expression, ast.Constant) and isinstance(expression.value, (int, str)):
        return expression.value
    return None if "nargs" in spec.removed or found.flag else found.nargs


def _kind(spec: _Spec, found: _FromField) -> str:
    if spec.changes.get("type", (None, None))[0] is None:
        return "text" if "type" in spec.removed else found.kind
    return _KINDS.get(_typed(spec), "unknown")


def _choices(
    spec: _Spec, sources: Sources, found: _FromField
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return what the parser takes (None: anything), and what it names without refusing the rest."""
    expression, module = spec.changes.get("choices", (None, None))
    named: Any = found.choices
    if expression is not None and module is not None:
        if isinstance(expression, ast.ListComp):
            named = hints.members(sources, expression.generators[0].iter, module)
        else:
            named = hints.value(sources, expression, module)
    suggested = tuple(str(value) for value in found.suggested)
    if named is None or isinstance(named, Unresolved):
        return None, suggested
    values = tuple(sorted(str(value) for value in named))
    if spec.in_pairs:
        single = [value for value in values if value != "None"]
        return (*values, *(f"{one},{two}" for one in single for two in single if one != two)), suggested
    if spec.more_choices or (spec.changes.get("type") and _kind(spec, found) == "unknown"):
        return None, values
    return values, suggested
