"""The source of the installed vLLM, as far as its command line goes: parsed, followed, never imported.

Only what is asked for is read, and the bodies of functions are left out before parsing, for a run has no
time for a hundred thousand lines.
"""

from __future__ import annotations

import ast
import re

from msgspec import Struct

from cudadoctor.host import Host

_LIMIT_BYTES = 1 << 20
_DEEPEST = 24  #: imports that lead to imports, aliases of aliases
_FUNCTION = re.compile(r"( *)(?:async )?def (\w+)\b")
_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)


class Found(Struct, frozen=True):
    """What a name stands for, and the module in which that is written."""

    node: ast.AST
    module: Module


class Module(Struct, frozen=True):
    """One source file: its top-level names, as they are when it runs."""

    name: str
    path: str
    package: bool
    text: str
    names: dict[str, ast.AST]  #: a class, a function, the value of an assignment, or the import
    typing_only: dict[str, ast.AST]  #: the names that stand under `if TYPE_CHECKING`


class Sources:
    """The modules of one package on the disk, parsed as they are asked for."""

    def __init__(self, host: Host, root: str, kept: frozenset[str]) -> None:
        self._host, self.root, self._kept = host, root, kept
        self._modules: dict[str, Module | None] = {}

    def text(self, path: str) -> str:
        """Return a file's text, or "" where it cannot be read."""
        try:
            return self._host.read(f"{self.root}/{path}", _LIMIT_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""

    def module(self, name: str) -> Module | None:
        """Return the module called `vllm.config.cache`, or None where there is none that can be parsed."""
        if name not in self._modules:
            self._modules[name] = None  # for a module that leads to itself
            self._modules[name] = self._parsed(name)
        return self._modules[name]

    def _parsed(self, name: str) -> Module | None:
        parts = name.split(".")
        if parts[0] != self.root.rpartition("/")[2]:
            return None
        inside = "/".join(parts[1:])
        for path, package in ((f"{inside}.py", False), (f"{inside}/__init__.py".lstrip("/"), True)):
            text = self.text(path)
            tree = parsed(text, self._kept) if text else None
            if tree is not None:
                module = Module(name, f"{self.root}/{path}", package, text, {}, {})
                _bind(tree.body, module.names, module.typing_only)
                return module
        return None

    def find(self, module: Module, name: str, typing_too: bool = False) -> Found | None:
        """Follow a name to what it stands for, through imports of this package and plain aliases."""
        for _ in range(_DEEPEST):
            node = module.typing_only.get(name) if typing_too else None
            node = node or module.names.get(name)
            if isinstance(node, ast.ImportFrom):
                target = self.module(_absolute(module, node))
                original = next((a.name for a in node.names if (a.asname or a.name) == name), name)
                if target is None:
                    return None
                if original not in target.names and original not in target.typing_only:
                    lazy = self._lazy(target, original)
                    if lazy is None:
                        return None
                    target = lazy
                module, name = target, original
            elif isinstance(node, ast.Name) and node.id != name:
                name = node.id
            else:
                return None if node is None else Found(node, module)
        return None

    def _lazy(self, package: Module, name: str) -> Module | None:
        """Return the module that a package's table of lazy imports names: {"LLM": ".entrypoints.llm:LLM"}."""
        match = re.search(rf"""['"]{re.escape(name)}['"]:\s*['"]\.?([\w.]+)(?::\w+)?['"]""", package.text)
        return self.module(f"{package.name}.{match[1]}") if match and package.package else None


def parsed(text: str, kept: frozenset[str]) -> ast.Module | None:
    """Parse a source without the bodies of its functions, but for those in `kept`; None where it has errors.

    Lines keep their numbers. Should a text within a function look like code, the classes no longer agree,
    and all of it is parsed.
    """
    for candidate in (_trimmed(text, kept), text):
        try:
            tree = ast.parse(candidate)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        if candidate is text or set(_CLASS.findall(text)) <= set(classes):
            return tree
    return None


def _trimmed(text: str, kept: frozenset[str]) -> str:
    lines, inside = text.split("\n"), -1
    for at, line in enumerate(lines):
        bare = line.lstrip(" ")
        if inside >= 0:
            if not bare or bare[0] in ")]}#" or len(line) - len(bare) > inside:
                lines[at] = ""
                continue
            inside = -1
        match = _FUNCTION.match(line)
        if match and match[2] not in kept:
            lines[at], inside = f"{match[1]}def {match[2]}(): pass", len(match[1])
    return "\n".join(lines)


def _bind(body: list[ast.stmt], names: dict[str, ast.AST], typing_only: dict[str, ast.AST]) -> None:
    """Note what each name stands for at the end of these statements."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            names.update((alias.asname or alias.name, node) for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            names[node.target.id] = node.value
        elif isinstance(node, ast.Try):
            _bind(node.body, names, typing_only)
        elif isinstance(node, ast.If):
            typing = "TYPE_CHECKING" in {
                part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)
            }
            _bind(node.body, typing_only if typing else names, typing_only)
            _bind(node.orelse, names, typing_only)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".") if module.package else module.name.split(".")[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])
