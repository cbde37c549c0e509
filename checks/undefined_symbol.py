"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from cudadoctor.declare import CannotTell, check
from cudadoctor.facts import (
    Environ,
    Packages,
    SharedObjects,
    Symbols,
    Target,
    UndefinedSymbol,
    Unresolved,
)
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge import symbols as names
from cudadoctor.knowledge import wheels
from cudadoctor.loading import (
    found_by,
    install_wheel,
    loaded_extensions,
    reinstall,
    short,
    take_out,
    wheel_named,
)
from cudadoctor.simulate.imports import Imported
from cudadoctor.simulate.loader import Loaded
from cudadoctor.versions import series

#: Of several reasons that one library shows, the first of these explains the others.
_ORDER = ("abi", "torch-stable", "torch", "python")


class _Scene(Struct, frozen=True):
    objects: SharedObjects
    environ: Environ
    packages: Packages
    target: Target
    imported: Sequence[Imported]

    @property
    def torch(self) -> str:
        """Return the version of the installed torch."""
        return self.packages.torch.version if self.packages.torch else ""


class _Case(Struct, frozen=True):
    """Libraries of one distribution whose symbols are lacking for one reason: a word of `_ORDER`, a stem."""

    reason: str
    symbol: UndefinedSymbol
    libraries: Sequence[Unresolved]

    @property
    def name(self) -> str:
        """Return the symbol as people know it."""
        return names.function(self.symbol.name) or self.symbol.name

    @property
    def distribution(self) -> str:
        """Return whose libraries these are, or ""."""
        return self.libraries[0].distribution


@check
def undefined_symbol(
    symbols: Symbols, objects: SharedObjects, environ: Environ, packages: Packages, target: Target
) -> Iterator[Finding]:
    """A compiled extension of the stack needs a symbol that no library it is loaded with defines.

    ## What it means
    `--deep` has the loader resolve every symbol of every extension, with what torch has loaded before it, and
    run none of it. Python opens extensions with RTLD_NOW, so a single symbol that is lacking ends the import:
    `ImportError: vllm/_C.abi3.so: undefined symbol: _ZN3c106detail14torchCheckFailEPKcS2_jRKSs`. Names in
    `c10`, `at` and `torch` are torch's, and change from one minor release to the next: the extension was
    built for another one. With `Ss` where torch has `__cxx11` in the name, it was built with the old C++ ABI.
    `aoti_torch_` and `torch_` begin the names of torch's stable interface, which only grows: they came with a
    newer torch. `Py` begins Python's. The driver's symbols are not judged where there is no driver.

    ## How to tell
    `python -c "import torch, vllm._C"` names the first symbol; `c++filt NAME` says what it stands for.

    ## What helps
    A build of the package for the installed torch and Python. For a symbol of a CUDA library, the library
    that torch asks for: where `LD_LIBRARY_PATH` leads to an older one, without that folder.
    """
    imported = loaded_extensions(objects, environ)
    scene = _Scene(objects, environ, packages, target, imported)
    for case in _cases(symbols.unresolved):
        yield _finding(case, scene)
    if symbols.untraced:
        first, more = symbols.untraced[0], len(symbols.untraced) - 1
        others = f", and {more} more" if more else ""
        raise CannotTell(f"{short(first.extension, packages)}: {first.reason}{others}")


def _cases(unresolved: Sequence[Unresolved]) -> Iterator[_Case]:
    found: dict[tuple[str, str], list[tuple[UndefinedSymbol, Unresolved]]] = {}
    for each in unresolved:
        if not each.symbols:  # a file may tell of some without naming any
            continue
        reason, symbol = min(((_reason(symbol), symbol) for symbol in each.symbols), key=_rank)
        found.setdefault((each.distribution or each.path, reason), []).append((symbol, each))
    for (_, reason), pairs in found.items():
        yield _Case(reason, pairs[0][0], [each for _, each in pairs])


def _reason(symbol: UndefinedSymbol) -> str:
    if symbol.alike and names.other_abi(symbol.name, symbol.alike):
        return "abi"
    return wheels.stem(symbol.library) or names.owner(symbol.name)


def _rank(pair: tuple[str, UndefinedSymbol]) -> int:
    return _ORDER.index(pair[0]) if pair[0] in _ORDER else len(_ORDER) + (not pair[0])


# --- what is said -------------------------------------------------------------------------------------------


def _finding(case: _Case, scene: _Scene) -> Finding:
    lacking = _lacking(case, scene)
    evidence = [Evidence(each.path, _says(each)) for each in case.libraries[:3]]
    if case.symbol.alike:
        evidence.append(Evidence(f"torch {scene.torch}", f"has {case.symbol.alike}"))
    if lacking is not None:
        evidence.append(Evidence(lacking.path, found_by(lacking, scene.environ)))
    remedy = _remedy(case, lacking, scene)
    return Finding(
        f"{_who(case, scene.packages)} {case.name}, {_why(case, lacking, scene)}",
        Severity.ERROR,
        tuple(evidence),
        (remedy,) if remedy else (),
    )


def _who(case: _Case, packages: Packages) -> str:
    first, count = short(case.libraries[0].path, packages), len(case.libraries) - 1
    return f"{first} and {count} more of {case.distribution} need" if count else f"{first} needs"


def _says(each: Unresolved) -> str:
    more = f", and {each.count - 1} more" if each.count > 1 else ""
    return f"undefined symbol: {each.symbols[0].name}{more}"


def _why(case: _Case, lacking: Loaded | None, scene: _Scene) -> str:
    """Return why nothing defines it, as far as its name tells."""
    symbol = case.symbol
    if case.reason == "abi":
        old, new = ("new", "old") if names.is_new(symbol.name) else ("old", "new")
        return f"built with the {old} C++ ABI, and torch {scene.torch} with the {new} one"
    if case.reason in ("torch", "torch-stable") and case.distribution == "torch":
        return "which torch's other libraries do not have: they are not of one torch"
    if case.reason == "torch" and symbol.alike:
        return f"which torch {scene.torch} has with other parameters: it is built for another torch"
    if case.reason == "torch":
        return f"which torch {scene.torch} does not have: it is built for another torch"
    if case.reason == "torch-stable":
        return f"which torch {scene.torch} does not have: it is built for a newer one"
    if case.reason == "python":
        return f"which Python {scene.target.version} does not have: it is built for another Python"
    if lacking is not None:
        return f"which {short(lacking.path, scene.packages)} does not have"
    return "which nothing that is loaded with it defines"


def _lacking(case: _Case, scene: _Scene) -> Loaded | None:
    """Return the loaded library that should define the symbol, where its name tells which."""
    if case.reason in ("", *_ORDER):
        return None
    own = next((one for one in scene.imported if one.extension.path == case.libraries[0].extension), None)
    if own is None:
        return None
    if (named := own.process.named(case.symbol.library)) is not None:
        return named
    stems = ((wheels.stem(one.path.rpartition("/")[2]), one) for one in own.process.loaded)
    return next((one for stem, one in stems if stem == case.reason), None)


def _remedy(case: _Case, lacking: Loaded | None, scene: _Scene) -> Remedy | None:
    name, torch, packages = case.distribution, scene.packages.torch, scene.packages
    if lacking is not None and lacking.rule == "LD_LIBRARY_PATH":
        return take_out({lacking.folder}, scene.objects, scene.environ)
    if lacking is not None:
        return install_wheel(wheel_named(case.reason, packages), packages)
    if not name:
        return None
    if name == "torch" or case.reason not in _ORDER or torch is None:
        installed = packages.find(name)
        return reinstall(name, installed.version, packages) if installed and case.reason in _ORDER else None
    if case.reason == "python":
        return Remedy("show", {}, f"a build of {name} for Python {series(scene.target.version)}")
    wanted = f"torch {series(torch.version)}" + (f" and CUDA {torch.cuda}" if torch.cuda else "")
    return Remedy("show", {}, f"a build of {name} for {wanted}")
