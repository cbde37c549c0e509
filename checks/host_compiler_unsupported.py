"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import (
    Compiler,
    Compilers,
    CompilerUse,
    Environ,
    HeaderDirectory,
    Packages,
    Paths,
    Toolkit,
    Toolkits,
)
from cudadoctor.findings import Evidence, Finding, Remedy
from cudadoctor.simulate.choice import consumers, judged, nothing_compiles
from cudadoctor.verdicts import of_launch, severity_for
from cudadoctor.versions import numbers


@check
def host_compiler_unsupported(
    toolkits: Toolkits,
    compilers: Compilers,
    environ: Environ,
    packages: Packages,
    paths: Paths | None = None,
) -> Iterator[Finding]:
    """The host compiler is newer than this CUDA toolkit accepts.

    ## What it means
    Every nvcc compilation includes `crt/host_config.h`, which stops with `#error -- unsupported GNU version!`
    (or `unsupported clang version!`) for a compiler newer than the toolkit knows. The limit is read from
    that very file, not from a table.

    ## How to tell
    `grep -n '__GNUC__ >' "$CUDA_HOME"/include/crt/host_config.h` and `g++ --version`

    ## What helps
    An older compiler beside the new one, named to nvcc by `NVCC_CCBIN` (by `CC` for FlashInfer where `CC` is
    set), or a newer toolkit. `-allow-unsupported-compiler` only hides the message.
    """
    who = consumers(packages, toolkits, environ)
    if not who:
        raise Skip(nothing_compiles(packages))
    toolkit, used = judged(toolkits, packages, who), compilers.used_by(who[0], "device")
    if toolkit is None:
        raise CannotTell("no toolkit of torch's CUDA with its headers is within reach (see cuda-home-wrong)")
    found = _limits(toolkit, toolkits)
    if found is None or used is None:
        raise CannotTell(f"{toolkit.root} has no crt/host_config.h that states a limit")
    use, compiler = used
    if not compiler.version:
        raise CannotTell(f"{compiler.command}: {compiler.problem or 'its version is not known'}")
    folder, limits = found
    limit = {"gcc": limits.gcc_limit, "clang": limits.clang_limit}.get(compiler.family)
    major = numbers(compiler.version)[:1]
    if limit is None or major <= (limit,) or _allowed(environ):
        return
    name = {"gcc": "GCC", "clang": "Clang"}[compiler.family]
    yield Finding(
        f"nvcc {toolkit.version} will refuse {name} {compiler.version}: it accepts {name} {limit} at most",
        severity_for(who, packages, paths),
        (
            Evidence(f"{folder}/crt/host_config.h", f"#error for {name} newer than {limit}"),
            Evidence(compiler.path or compiler.command, f"{name} {compiler.version}, taken by {use.rule}"),
            *of_launch(who, paths),
        ),
        (
            Remedy(
                "show",
                {},
                f"{_older(compiler, use, limit, environ)}  # {name} {limit} or older, once installed",
            ),
        ),
    )


def _older(compiler: Compiler, use: CompilerUse, limit: int, environ: Environ) -> str:
    """Return the export that names an older compiler, by the variable that the present one is taken from."""
    older = {"gcc": "g++", "clang": "clang++"}[compiler.family] + f"-{limit}"
    for variable in ("NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS"):
        if use.rule.endswith(variable):
            flags = (environ.get(variable) or "").replace(compiler.command, older)
            return f"export {variable}={shlex.quote(flags)}"
    return f"export {'CC' if use.rule.startswith('CC') else 'NVCC_CCBIN'}={older}"


def _limits(toolkit: Toolkit, toolkits: Toolkits) -> tuple[str, HeaderDirectory] | None:
    for folder in toolkit.include:
        directory = toolkits.headers.get(folder)
        if directory is not None and (directory.gcc_limit or directory.clang_limit):
            return folder, directory
    return None


def _allowed(environ: Environ) -> bool:
    flags = [
        environ.get(name) or ""
        for name in ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "FLASHINFER_EXTRA_CUDAFLAGS")
    ]
    return any("-allow-unsupported-compiler" in text for text in flags)
