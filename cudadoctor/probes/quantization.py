"""Quantised weights: what the checkpoint says of itself, and what the installed vLLM's source makes of it.

Read off vLLM 0.12.0 (config/model.py, model_executor/layers/quantization, model_loader/weight_utils.py,
2026-11-21). Only the files of the methods in question are parsed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from cudadoctor.facts.model import Methods, Quantization
from cudadoctor.host import Host
from cudadoctor.launch.source import parsed

_FOLDER = "vllm/model_executor/layers/quantization"
_SOURCE_BYTES = 1 << 20
_KEPT = frozenset(
    ("get_name", "get_min_capability", "get_config_filenames", "override_quantization_method",
     "get_quantization_config", "get_supported_act_dtypes", "__init__")
)  # fmt: skip
#: What another tool calls what vLLM takes over, so that both files are looked at.
_RELATED = {"awq": ("awq_marlin",), "gptq": ("gptq_marlin",)}
#: They are made without a config before anything is asked of them (get_quant_config).
_WITHOUT = ("gguf", "inc", "bitsandbytes")
_LONG = 64  #: entries of a list that say something of the method; lists of layers are longer
_DEEPEST = 6


def stated(config: Mapping[str, object], beside: Mapping[str, object] | None) -> Quantization | None:
    """Return what config.json, or hf_quant_config.json beside it, says; None for weights that are not."""
    found, source = _first(config)
    if found is None and beside is not None:
        found, source = beside, "hf_quant_config.json"
    if found is None:
        return None
    method = str(found.get("quant_method") or "").lower().replace("compressed_tensors", "compressed-tensors")
    # modelopt names itself, and has the algorithm in one place or the other.
    producer, inner = found.get("producer"), found.get("quantization")
    if method == "modelopt" or (isinstance(producer, dict) and producer.get("name") == "modelopt"):
        algorithm = str((inner if isinstance(inner, dict) else found).get("quant_algo") or "").upper()
        method = "modelopt_fp4" if "FP4" in algorithm else "modelopt" if "FP8" in algorithm else method
    kept = {str(key): _short(value) for key, value in found.items()}
    return Quantization(method, source, kept)


def _first(config: Mapping[str, object]) -> tuple[Mapping[str, object] | None, str]:
    """Return the first of the tables that vLLM looks for, and its place."""
    places = (("quantization_config",), ("compression_config",), ("text_config", "quantization_config"),
              ("text_config", "compression_config"))  # fmt: skip
    for place in places:
        at: object = config
        for key in place:
            at = at.get(key) if isinstance(at, Mapping) else None
        if isinstance(at, Mapping):
            return cast(Mapping[str, object], at), f"config.json: {'.'.join(place)}"
    return None, ""


def _short(value: object) -> Any:
    """Return a value of a config without what is listed layer by layer."""
    if isinstance(value, (list, str)) and len(value) > _LONG:
        return f"({len(value)} entries)" if isinstance(value, list) else value[:_LONG]
    if isinstance(value, dict):
        return {str(key): _short(each) for key, each in list(value.items())[:_LONG]}
    return value


# --- vLLM's own source --------------------------------------------------------------------------------------


def methods(host: Host, location: str, of: Iterable[str]) -> Methods:
    """Return the methods of the vLLM in this site-packages folder, with the rules of those in question."""
    source = f"{location}/{_FOLDER}/__init__.py"
    tree = _tree(host, source)
    names = _named(tree) if tree else ()
    if tree is None or not names:
        return Methods("")
    classes, modules = dict(_classes(tree)), dict(_modules(tree))
    wanted = [name for each in dict.fromkeys(of) for name in (each, *_RELATED.get(each, ()))]
    takes_over, capability, files, dtypes, bare = {}, {}, {}, {}, []
    for name in (name for name in wanted if name in classes):
        functions = _functions(host, location, modules.get(classes[name], ""), classes[name])
        if "override_quantization_method" in functions:
            takes_over[name] = tuple(sorted(_accepted(functions["override_quantization_method"])))
        least = list(_returned(functions.get("get_min_capability")))
        if len(least) == 1 and isinstance(least[0], ast.Constant) and isinstance(least[0].value, int):
            capability[name] = least[0].value
        lists = [
            each for each in _returned(functions.get("get_config_filenames")) if isinstance(each, ast.List)
        ]
        if len(lists) == 1:
            files[name] = tuple(_strings(lists[0]))
            if not files[name] and name not in _WITHOUT and _wants(functions.get("__init__")):
                bare.append(name)
        if computed := _computed(functions.get("get_supported_act_dtypes")):
            dtypes[name] = computed
    return Methods(source, names, takes_over, capability, files, tuple(bare), dtypes)


def _tree(host: Host, path: str) -> ast.Module | None:
    try:
        return parsed(host.read(path, _SOURCE_BYTES).decode("utf-8", "replace"), _KEPT)
    except OSError:
        return None


def _named(tree: ast.Module) -> tuple[str, ...]:
    """Return the names in `QuantizationMethods = Literal[...]`, or in the list that older releases have."""
    found: dict[str, ast.expr] = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for name in ("QuantizationMethods", "QUANTIZATION_METHODS"):
        value = found.get(name)
        if isinstance(value, (ast.Subscript, ast.List)) and (texts := tuple(_strings(value))):
            return texts
    return ()


def _classes(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield methods with the name of the class that each is of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Name):
                    yield str(key.value), value.id


def _modules(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the classes that a file of the folder imports, with the module in that folder."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module.rpartition("layers.quantization.")[2]
            yield from ((alias.asname or alias.name, inside) for alias in node.names)


def _functions(host: Host, location: str, module: str, name: str) -> dict[str, ast.FunctionDef]:
    """Return the functions of a class that matter here, those of its bases included."""
    found: dict[str, ast.FunctionDef] = {}
    for _ in range(_DEEPEST):
        tree = _tree(host, f"{location}/{_FOLDER}/{module.replace('.', '/')}.py") if module else None
        bodies = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)} if tree else {}
        node = bodies.get(name)
        if tree is None or node is None:
            break
        own = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
        found = {**{key: each for key, each in own.items() if key in _KEPT}, **found}
        base = next((each.id for each in node.bases if isinstance(each, ast.Name)), "")
        if base not in bodies:
            module = dict(_modules(tree)).get(base, "")
        # What the base of all has says nothing of one of them.
        if base in ("", "QuantizationConfig"):
            break
        name = base
    return found


def _accepted(function: ast.FunctionDef) -> set[str]:
    """Return the values of `--quantization` for which a method takes over, "" for none given.

    They stand in the first condition over `user_quant`; a later one, as in `user_quant == "awq"`, only logs.
    """
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and re.search(r"\buser_quant\b", ast.unparse(node.value)):
            return set(_asked_for(node.value))
    tests = (node.test for node in ast.walk(function) if isinstance(node, ast.If))
    return {value for test in tests for value in _asked_for(test)}


def _asked_for(test: ast.expr) -> Iterator[str]:
    for node in ast.walk(test):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "user_quant":
            right = node.comparators[0]
            if isinstance(right, ast.Constant):
                yield "" if right.value is None else str(right.value)
            elif isinstance(right, (ast.List, ast.Tuple, ast.Set)):
                yield from ("" if each.value is None else str(each.value)
                            for each in right.elts if isinstance(each, ast.Constant))  # fmt: skip


def _wants(function: ast.FunctionDef | None) -> bool:
    """Return whether an object cannot be made without arguments."""
    if function is None:
        return False
    given = function.args
    places = len(given.posonlyargs) + len(given.args) - 1
    return places > len(given.defaults) or any(default is None for default in given.kw_defaults)


def _computed(function: ast.FunctionDef | None) -> tuple[str, ...]:
    """Return the dtypes in the only list that is returned: `torch.half` is float16."""
    lists = list(_returned(function))
    if len(lists) != 1 or not isinstance(lists[0], ast.List):
        return ()
    names = [each.attr for each in lists[0].elts if isinstance(each, ast.Attribute)]
    known = len(names) == len(lists[0].elts)
    return tuple({"half": "float16", "float": "float32"}.get(name, name) for name in names) if known else ()


def _returned(function: ast.FunctionDef | None) -> Iterator[ast.expr]:
    for node in ast.walk(function) if function else ():
        if isinstance(node, ast.Return) and node.value is not None:
            yield node.value


def _strings(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value
