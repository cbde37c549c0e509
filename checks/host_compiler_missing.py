"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Compiler, Compilers, CompilerUse, Environ, Libraries, Packages, Paths, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.choice import consumers, nothing_compiles
from cudadoctor.verdicts import severity_for

_LABELS = {"flashinfer": "FlashInfer", "torch": "torch's extension builder", "triton": "Triton"}
_SLOW = "did not answer in time"


@check
def host_compiler_missing(
    compilers: Compilers,
    packages: Packages,
    toolkits: Toolkits,
    environ: Environ,
    libraries: Libraries,
    paths: Paths | None = None,
) -> Iterator[Finding]:
    """The C or C++ compiler that a just-in-time build starts is not there, or is none.

    ## What it means
    Slim and runtime images have no compiler. FlashInfer then stops at its first build, nvcc with `Failed to
    preprocess host compiler properties`, and Triton at its first kernel with `Failed to find C compiler`. A
    `CXX` or `CC` that names no compiler has the same effect.

    ## How to tell
    `${CXX:-c++} --version` and `${CC:-gcc} --version`

    ## What helps
    A compiler: `g++` of the system, `gxx_linux-64` of conda-forge; or `CXX` and `CC` set to the one that is
    there.
    """
    who = consumers(packages, toolkits, environ)
    active = (*who, "triton") if libraries.driver and packages.triton else who
    if not active:
        raise Skip(nothing_compiles(packages))
    broken: dict[str, list[CompilerUse]] = {}
    for use in compilers.uses:
        compiler = compilers.compilers.get(use.command)
        if use.consumer in active and compiler is not None and compiler.problem:
            broken.setdefault(use.command, []).append(use)
    told = [command for command in broken if compilers.compilers[command].problem != _SLOW]
    for command in told:
        yield _finding(compilers.compilers[command], broken[command], packages, paths)
    if broken and not told:
        raise CannotTell(f"{next(iter(broken))}: {_SLOW}")


def _finding(compiler: Compiler, uses: list[CompilerUse], packages: Packages, paths: Paths | None) -> Finding:
    names = list(dict.fromkeys(_LABELS[use.consumer] for use in uses))
    triton = any(use.consumer == "triton" for use in uses)
    severity = Severity.ERROR if triton else severity_for(tuple(u.consumer for u in uses), packages, paths)
    what = "is not there" if not compiler.path else "is no working compiler"
    rules = ", ".join(dict.fromkeys(use.rule for use in uses))
    return Finding(
        f"{compiler.command or 'an empty name'}, which {' and '.join(names)} will start to compile, {what}",
        severity,
        (Evidence(compiler.path or "PATH", f"{compiler.command}: {compiler.problem}; taken by {rules}"),),
        (Remedy("show", {}, "the package g++ (Debian), gcc-c++ (Fedora) or gxx_linux-64 (conda)"),),
    )
