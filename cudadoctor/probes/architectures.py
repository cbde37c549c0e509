"""The model architectures that the installed vLLM knows: its registry, by syntax tree, never imported.

The rules are those of vLLM 0.12.0 (model_executor/models/registry.py and config/model.py, read 2026-11-21): a
name of the registry; else another ending of the name; else the class of transformers, if it has one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from posixpath import dirname

from msgspec import Struct

from cudadoctor.facts import Packages
from cudadoctor.facts.model import Architecture
from cudadoctor.host import Host
from cudadoctor.launch.source import parsed

_REGISTRY = "vllm/model_executor/models/registry.py"
#: The dictionary of all of them; earlier releases called it otherwise.
_ALL = ("_VLLM_MODELS", "_MODELS")
_CONFIGS = "vllm/transformers_utils/config.py"
_FORMER = "_PREVIOUSLY_SUPPORTED_MODELS"
_SOURCE_BYTES = 1 << 20
_DEEPEST = 16
_NEAR = 0.7
_TASK = r"(?:For[A-Z]\w*|LMHeadModel|ChatModel|Model)$"
_PLUGINS = "vllm.general_plugins"

Class = tuple[str, str]  #: module and class


class Registry(Struct, frozen=True):
    """What the registry names."""

    path: str
    known: dict[str, Class]  #: by architecture; several may be of one class
    former: dict[str, str]  #: by architecture: the last version that had it

    @property
    def falls_back(self) -> bool:
        """Return whether it has classes that run an implementation of transformers."""
        return any(name.startswith("Transformers") for name in self.known)


class _Unread(Exception):
    """A part of the source is written in a way that is not understood here."""


def registry(host: Host, location: str) -> Registry | str:
    """Return the registry of the vLLM in this site-packages folder, or why it cannot be read."""
    path = f"{location}/{_REGISTRY}"
    try:
        text = host.read(path, _SOURCE_BYTES).decode("utf-8", "replace")
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    tree = parsed(text, frozenset())
    values = dict(_assigned(tree.body)) if tree else {}
    root = next((values[name] for name in _ALL if name in values), None)
    if root is None:
        return f"{path}: its table of models is not where it is known to be"
    try:
        known = _table(root, values, 0)
    except _Unread as error:
        return f"{path}: {error}"
    former = values.get(_FORMER)
    return Registry(path, known, _texts(former) if isinstance(former, ast.Dict) else {})


def _assigned(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        if isinstance(node, ast.Assign):
            yield from ((each.id, node.value) for each in node.targets if isinstance(each, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _table(node: ast.expr, values: Mapping[str, ast.expr], depth: int) -> dict[str, Class]:
    """Return the entries of a dictionary of models, those that it takes over from others included."""
    if depth > _DEEPEST:
        raise _Unread("tables that lead to each other")
    if isinstance(node, ast.Name) and node.id in values:
        return _table(values[node.id], values, depth + 1)
    if isinstance(node, ast.DictComp):
        return _chosen(node, values, depth + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return {**_table(node.left, values, depth + 1), **_table(node.right, values, depth + 1)}
    if not isinstance(node, ast.Dict):
        raise _Unread(f"line {node.lineno} is no table of models")
    found: dict[str, Class] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            found.update(_table(value, values, depth + 1))
        elif isinstance(key, ast.Constant) and isinstance(key.value, str):
            found[key.value] = _class(value)
        else:
            raise _Unread(f"line {value.lineno} names no architecture")
    return found


def _class(node: ast.expr) -> Class:
    """Return module and class of an entry; empty texts where they are not written there."""
    parts = node.elts if isinstance(node, ast.Tuple) else []
    texts = [each.value for each in parts if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return (texts[0], texts[1]) if len(texts) == 2 == len(parts) else ("", "")


def _chosen(node: ast.DictComp, values: Mapping[str, ast.expr], depth: int) -> dict[str, Class]:
    """Return what `{k: (mod, arch) for k, (mod, arch) in TABLE.items() if arch == "X"}` makes of a table."""
    loop = node.generators[0]
    called = loop.iter.func if isinstance(loop.iter, ast.Call) else None
    if len(node.generators) > 1 or not isinstance(called, ast.Attribute) or called.attr != "items":
        raise _Unread(f"line {node.lineno} makes a table in a way that is not known")
    table = _table(called.value, values, depth + 1)
    wanted = [_compared(test) for test in loop.ifs]
    names = ast.unparse(loop.target).replace("(", "").replace(")", "").split(", ")
    if len(names) != 3 or any(name not in names for name, _ in wanted):
        raise _Unread(f"line {node.lineno} makes a table in a way that is not known")
    return {
        arch: entry
        for arch, entry in table.items()
        if all(dict(zip(names, (arch, *entry), strict=True))[name] == value for name, value in wanted)
    }


def _compared(test: ast.expr) -> tuple[str, str]:
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and isinstance(test.ops[0], ast.Eq):
        value = test.comparators[0]
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return test.left.id, value.value
    raise _Unread(f"line {test.lineno} chooses models in a way that is not known")


def _texts(node: ast.Dict) -> dict[str, str]:
    pairs = zip(node.keys, node.values, strict=True)
    return {
        key.value: value.value
        for key, value in pairs
        if isinstance(key, ast.Constant)
        and isinstance(value, ast.Constant)
        and isinstance(key.value, str)
        and isinstance(value.value, str)
    }


# --- one model ----------------------------------------------------------------------------------------------


def look(host: Host, packages: Packages, config: Mapping[str, object]) -> Architecture | None:
    """Return what the installed vLLM makes of a model's config; None where there is nothing to say."""
    vllm = packages.find("vllm")
    if vllm is None:
        return None
    asked = named(config)
    if not asked:
        return Architecture((), "cannot-tell", reason="config.json names no architecture")
    found = registry(host, vllm.location)
    if isinstance(found, str):
        return Architecture(asked, "cannot-tell", reason=found)
    taken = next(filter(None, (_taken(host, vllm.location, found, name) for name in asked)), "")
    if taken:
        return Architecture(asked, "known", found.path, taken)
    former = next((found.former[name] for name in asked if name in found.former), "")
    near = tuple(_nearest(asked[0], found))
    if doubt := plugins(host, packages):
        return Architecture(asked, "cannot-tell", found.path, "", former, near, doubt)
    if found.falls_back and (reason := _by_transformers(host, packages, asked[0], config)):
        return Architecture(asked, "fallback", found.path, "", former, near, reason)
    if reason := _renamed(host, vllm.location, config):
        return Architecture(asked, "cannot-tell", found.path, "", former, near, reason)
    return Architecture(asked, "unknown", found.path, "", former, near)


def named(config: Mapping[str, object]) -> tuple[str, ...]:
    """Return the architectures that a config names; vLLM takes a single text for a list of one."""
    value = config.get("architectures")
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _taken(host: Host, location: str, found: Registry, name: str) -> str:
    """Return the known architecture that a name stands for, "" for none."""
    if name in found.known:
        return name
    endings = _endings(host, location)
    ending = next((each for each in endings if name.endswith(each)), None)
    if ending is None:
        return ""
    bases = (name.replace(ending, other) for other in endings)
    return next((base for base in bases if base in found.known), "")


def _endings(host: Host, location: str) -> list[str]:
    """Return the endings of names that vLLM takes for each other, the same model for another task."""
    for file in ("vllm/config/model.py", "vllm/config/__init__.py", "vllm/config.py"):
        try:
            text = host.read(f"{location}/{file}", _SOURCE_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        if match := re.search(r"^_SUFFIX_TO_DEFAULTS\b[^=]*=\s*\[(.*?)^\]", text, re.MULTILINE | re.DOTALL):
            return re.findall(r"""^\s*\(\s*["'](\w+)["'],\s*\(""", match[1], re.MULTILINE)
    return []


def _renamed(host: Host, location: str, config: Mapping[str, object]) -> str:
    """Return why the name may be another one when vLLM looks it up: a class for the config may change it."""
    family = str(config.get("model_type") or "")
    path = f"{location}/{_CONFIGS}"
    try:
        text = host.read(path, _SOURCE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    if (
        not family
        or re.search(rf"""^\s+["']?{re.escape(family)}["']?\s*[=:]\s*["']?\w+Config\b""", text, re.M) is None
    ):
        return ""
    return f"vLLM reads configs of model_type {family} with a class of its own, which may name another"


def _nearest(name: str, found: Registry) -> list[str]:
    import difflib

    stems: dict[str, str] = {}  # what the name says of the model; its ending, for what task, all have alike
    for known in found.known:
        stems.setdefault(re.sub(_TASK, "", known), known)
    stem = re.sub(_TASK, "", name)
    ending = name[len(stem) :]
    near = difflib.get_close_matches(stem, stems, 3, _NEAR)
    return [each + ending if each + ending in found.known else stems[each] for each in near]


def _by_transformers(host: Host, packages: Packages, name: str, config: Mapping[str, object]) -> str:
    """Return why the implementation of transformers may run it, "" where there is none."""
    by_itself = config.get("auto_map")
    if isinstance(by_itself, dict) and any(
        str(key).startswith(("AutoModel", "AutoConfig")) for key in by_itself
    ):
        return "the model brings code of its own (auto_map)"
    transformers = packages.find("transformers")
    if transformers is None:
        return ""
    family = re.sub(r"\W", "", str(config.get("model_type") or ""))
    root = f"{transformers.location}/transformers/models"
    for file in (f"{root}/{family}/modeling_{family}.py", f"{root}/auto/modeling_auto.py"):
        try:
            text = host.read(file, 4 * _SOURCE_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        if re.search(rf"^class {re.escape(name)}\b|[\"']{re.escape(name)}[\"']", text, re.MULTILINE):
            if file.startswith(f"{root}/{family}/") and _refused(host, transformers.location, text, name):
                return ""
            return f"transformers {transformers.version} has an implementation: {file}"
    return ""


_SUITED = "_supports_attention_backend"


def _refused(host: Host, location: str, text: str, name: str) -> bool:
    """Return whether vLLM refuses a class of transformers for certain: it asks `is_backend_compatible`.

    That is an attribute of the class, or of one that it is made of. The class at the root says no.
    """
    try:
        root = host.read(f"{location}/transformers/modeling_utils.py", _SOURCE_BYTES)
    except OSError:
        return False
    asks = re.search(
        rb"def is_backend_compatible\(cls\)[^\n]*\n\s*return cls\._supports_attention_backend", root
    )
    tree = parsed(text, frozenset())
    if asks is None or tree is None or f"{_SUITED} = False".encode() not in root:
        return False
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    todo, seen = [name], set[str]()
    while todo:
        each = todo.pop()
        if each in seen or each in _ROOTS:
            continue
        seen.add(each)
        node = classes.get(each)
        if node is None or any(key == _SUITED for key, _ in _assigned(node.body)):
            return False  # it is from elsewhere, or says something of its own
        todo += [base.id if isinstance(base, ast.Name) else "" for base in node.bases]
    return True


#: What classes of models are made of at last; none of them but the first has a word on it.
_ROOTS = frozenset(("PreTrainedModel", "GenerationMixin", "object", "ABC"))


def plugins(host: Host, packages: Packages) -> str:
    """Return which installed distribution registers something with vLLM by itself, "" for none.

    vLLM registers a part of its own in the same way, which adds no model and no method.
    """
    for distribution in packages.distributions:
        if not distribution.file:
            continue
        path = f"{distribution.location}/{dirname(distribution.file)}/entry_points.txt"
        try:
            text = host.read(path, _SOURCE_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        if _PLUGINS in text and any(not _vllm_s_own(target) for target in _entries(text)):
            return f"{distribution.name} {distribution.version} may register more (a plugin of vLLM)"
    return ""


def _entries(text: str) -> Iterator[str]:
    """Yield what the entry points of vLLM's plug-ins lead to: "module:name"."""
    inside = False
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            inside = line.strip("[] \t") == _PLUGINS
        elif inside and line and not line.startswith(("#", ";")):
            yield line.partition("=")[2].strip()


def _vllm_s_own(target: str) -> bool:
    return target.partition(":")[0].partition(".")[0] == "vllm"
