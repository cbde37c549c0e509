"""Every symbol of the stack's extensions, resolved by the loader that starts the target's Python.

The loader traces: it maps the interpreter, what torch has opened before and the extension, relocates all of
them at once, says what is defined nowhere, and ends. It runs no constructor, and with `__RTLD_NOIFUNC` no
function that picks another (elf/rtld.c of glibc, read 2026-11). Each extension has a trace of its own: in one
with others it would find symbols that an import, which keeps them apart, does not show it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from posixpath import normpath

from msgspec import Struct, structs

import cudadoctor.elf as elf
from cudadoctor.facts import Environ, Packages, SharedObjects, Symbols, UndefinedSymbol, Unresolved, Untraced
from cudadoctor.host import Host, Ran
from cudadoctor.knowledge import symbols as names
from cudadoctor.probes.compilers import child_environ
from cudadoctor.simulate.imports import DRIVER, Imported, imports, lacking, reach
from cudadoctor.simulate.loader import Loaded

#: For one trace: with torch's libraries it took 0.1 s, from a cold disk 10 s.
TRACE_S = 60.0
#: For all of them: below what the engine grants the probe.
TOTAL_S = 300.0

_KEPT = ("LD_LIBRARY_PATH", "LD_PRELOAD")
_TRACE = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes", "LD_BIND_NOW": "yes"}
_UNDEFINED = re.compile(r"undefined symbol: (?P<name>\S+?)(?:, version (?P<version>\S+))?\t\((?P<path>.*)\)$")
_UNBOUND = re.compile(
    r"symbol (?P<name>\S+), version (?P<version>\S+) not defined in file (?P<library>\S+)"
    r" with link time reference\t\((?P<path>.*)\)$"
)
_NAMED = 20  #: symbols that are named of each library
_TABLE_BYTES = 64 << 20
_RECORD_BYTES = 16 << 20


def probe(
    host: Host,
    environ: Environ,
    packages: Packages,
    objects: SharedObjects,
    *,
    trace_s: float = TRACE_S,
    total_s: float = TOTAL_S,
) -> Symbols:
    """Return what the loader does not find; `trace_s` is for one trace, `total_s` for all of them."""
    variables = _environ(host, environ)
    deadline = time.monotonic() + total_s
    found: dict[str, Unresolved] = {}
    untraced: list[Untraced] = []
    traced = 0
    for one in imports(objects, environ, environ.get("LD_LIBRARY_PATH") or ""):
        limit_s = min(trace_s, deadline - time.monotonic())
        answer = _asked(host, one, objects, environ, variables, limit_s)
        if answer.problem:
            untraced.append(Untraced(one.extension.path, answer.problem))
            continue
        traced += 1
        for path, undefined in answer.undefined.items():
            if path not in found:
                found[path] = _described(host, one, path, undefined, packages)
    return Symbols(tuple(found.values()), tuple(untraced), traced)


def _environ(host: Host, environ: Environ) -> dict[str, str]:
    """Return the variables of a trace: none that has the loader write to a file or run an auditor."""
    variables = child_environ(host, environ)
    return {name: value for name, value in variables.items() if name in _KEPT or name[:3] != "LD_"} | _TRACE


# --- one trace ----------------------------------------------------------------------------------------------


class _Answer(Struct, frozen=True):
    """What a trace told: by library the symbols that are lacking, or why it told nothing."""

    undefined: dict[str, list[UndefinedSymbol]] = {}
    problem: str = ""


def _asked(
    host: Host,
    one: Imported,
    objects: SharedObjects,
    environ: Environ,
    variables: Mapping[str, str],
    limit_s: float,
) -> _Answer:
    reached, missing = reach(one, objects)
    if problem := _hindrance(one, reached, missing, environ, limit_s):
        return _Answer(problem=problem)
    own = variables.get("LD_PRELOAD", "")
    paths = [entry.path for entry in reached[one.started :]]
    preload = ":".join([*([own] if own else []), *paths])
    assert objects.loader is not None
    argv = (objects.loader.path, objects.python)
    ran = host.run(argv, {**variables, "LD_PRELOAD": preload}, cwd=environ.cwd or None, timeout_s=limit_s)
    if problem := _failure(ran, limit_s) or _astray(host, ran.stdout, reached, missing):
        return _Answer(problem=problem)
    return _Answer(_read(ran.stderr, one, bool(missing)))


def _hindrance(
    one: Imported, reached: list[Loaded], missing: list[str], environ: Environ, limit_s: float
) -> str:
    """Return why the loader cannot be asked about an extension."""
    if lost := next((name for name in missing if not DRIVER.match(name)), ""):
        return f"{lost} is missing"
    if stopped := next((problem for problem in one.problems if problem.path), None):
        return f"{stopped.path}: {stopped.reason}"
    if odd := next((entry.path for entry in reached[one.started :] if re.search("[ :]", entry.path)), ""):
        return f"{odd}: a path with a space or a colon cannot be preloaded"
    if environ.get("TORCH_USE_RTLD_GLOBAL"):
        return "with TORCH_USE_RTLD_GLOBAL torch shows all its symbols to everyone"
    return "" if limit_s > 0 else "the traces before it took too long"


def _failure(ran: Ran, limit_s: float) -> str:
    if ran.timed_out:
        return f"the loader did not end within {limit_s:g} s"
    if ran.problem or not ran.status:
        return ran.problem
    return next(iter(ran.stderr.splitlines()), f"the loader ended with {ran.status}")


def _astray(host: Host, listing: str, reached: list[Loaded], missing: list[str]) -> str:
    """Return where the loader did not go by the model: then its answers are for another process."""
    expected = {host.realpath(entry.path): entry.path for entry in reached[1:]}
    for line in listing.splitlines():
        if line.endswith(" => not found"):
            if (name := line[1:-13]) not in missing:
                return f"the loader does not find {name}, which was expected to be there"
        elif (path := _listed(line)).startswith("/"):
            if host.realpath(path) not in expected:
                return f"the loader takes {path}, which was not expected"
            expected[host.realpath(path)] = ""
    left = next(filter(None, expected.values()), "")
    return f"the loader does not take {left}, which was expected" if left else ""


def _listed(line: str) -> str:
    """Return the path in a line like "\tlibm.so.6 => /lib/libm.so.6 (0x00007f1c)" of the loader's, or ""."""
    said, address, _ = line.rpartition(" (0x")
    name, _, path = said.removeprefix("\t").partition(" => ")
    return (path or name) if address and line.startswith("\t") else ""


def _read(text: str, one: Imported, without_driver: bool) -> dict[str, list[UndefinedSymbol]]:
    """Return what is lacking for the extension and what came with it, each symbol once.

    Versions that a library lacks as a whole are another matter. Where the driver is missing, only what cannot
    be its own counts: it has no names of C++ and none of those whose owner is known.
    """
    own = {entry.path for entry in one.new[0 if one.before else one.started :]}
    versions = {version for lack in lacking(one) for version in lack.versions}
    found: dict[str, dict[str, UndefinedSymbol]] = {}
    for line in text.splitlines():
        match = _UNDEFINED.match(line) or _UNBOUND.match(line)
        if match is None or match["path"] not in own or match["version"] in versions:
            continue
        name = match["name"]
        if without_driver and not (name.startswith("_Z") or names.owner(name)):
            continue
        library = match.groupdict().get("library") or ""
        symbol = UndefinedSymbol(name, match["version"] or "", library)
        found.setdefault(match["path"], {}).setdefault(name, symbol)
    return {path: list(symbols.values()) for path, symbols in found.items()}


# --- whose they are -----------------------------------------------------------------------------------------


def _described(
    host: Host, one: Imported, path: str, undefined: list[UndefinedSymbol], packages: Packages
) -> Unresolved:
    extension = one.extension
    distribution = extension.distribution if path == extension.path else _owner(host, path, packages)
    symbols = _with_alike(host, undefined[:_NAMED], one, packages)
    return Unresolved(path, extension.path, tuple(symbols), len(undefined), distribution)


def _owner(host: Host, path: str, packages: Packages) -> str:
    """Return the distribution whose RECORD lists a file."""
    plain = normpath(path)
    for each in packages.distributions:
        if not plain.startswith(f"{each.location}/") or not each.file.endswith("/METADATA"):
            continue
        try:
            record = host.read(f"{each.path.rpartition('/')[0]}/RECORD", _RECORD_BYTES)
        except OSError:
            continue
        line = f"\n{plain[len(each.location) + 1 :]},".encode("utf-8", "surrogateescape")
        if line in b"\n" + record:
            return each.name
    return ""


def _with_alike(
    host: Host, undefined: list[UndefinedSymbol], one: Imported, packages: Packages
) -> Iterator[UndefinedSymbol]:
    """Yield the symbols, with torch's own for the same function where it has one."""
    wanted = {names.function(symbol.name) for symbol in undefined if names.owner(symbol.name) == "torch"}
    torch = f"{packages.torch.root}/lib/" if packages.torch else ""
    libraries = [
        entry.path for entry in one.process.loaded if torch and normpath(entry.path).startswith(torch)
    ]
    alike = _functions(host, wanted, libraries) if wanted else {}
    for symbol in undefined:
        there = alike.get(names.function(symbol.name), [])
        other = next(
            (name for name in there if names.other_abi(symbol.name, name)), there[0] if there else ""
        )
        yield structs.replace(symbol, alike=other) if other else symbol


def _functions(host: Host, wanted: set[str], libraries: Iterable[str]) -> dict[str, list[str]]:
    """Return the symbols of these functions that the libraries define, in the order of the alphabet."""
    found: dict[str, list[str]] = {}
    for path in libraries:
        try:
            defined = elf.symbols(host, path, _TABLE_BYTES)[1]
        except (OSError, elf.Damaged):
            continue
        for symbol in defined:
            if (function := names.function(symbol)) in wanted:
                found.setdefault(function, []).append(symbol)
    return {function: sorted(symbols) for function, symbols in found.items()}
