"""See the check's own page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from msgspec import Struct

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Environ, Packages, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate.choice import consumers
from cudadoctor.versions import numbers

_HOST = ("CXXFLAGS", "CFLAGS", "CPPFLAGS")
_NVCC_LAST = ("FLASHINFER_EXTRA_CUDAFLAGS", "NVCC_APPEND_FLAGS")
_NVCC = ("NVCC_PREPEND_FLAGS", *_NVCC_LAST)
_LOWERED = ("0", "1", "s", "g", "z")
# Options of nvcc that hand what follows to another program than the host compiler.
_ELSEWHERE = ("-Xptxas", "-Xcicc", "-Xlinker", "-Xnvlink", "-Xarchive", "--ptxas-options", "--linker-options")
_TO_HOST = ("-Xcompiler", "--compiler-options")


@check
def optimisation_flags_ineffective(
    environ: Environ, packages: Packages, toolkits: Toolkits
) -> Iterator[Finding]:
    """An optimisation level is set where FlashInfer's builds do not heed it.

    ## What it means
    FlashInfer compiles with `-O3` of its own. It does not read `CXXFLAGS`, `CFLAGS` or `CPPFLAGS`, its `-O3`
    comes after `NVCC_PREPEND_FLAGS` and wins, and nvcc puts what `-Xcompiler` hands on before the level that
    it was given itself. Whoever lowers the level there, to get past a crash of the compiler or to save
    memory, changes nothing.

    ## How to tell
    `NVCC_PREPEND_FLAGS=-O1 nvcc -O3 --dryrun -c x.cu` shows `-O3` for the host compiler.

    ## What helps
    `FLASHINFER_EXTRA_CUDAFLAGS` (for .cu files; before FlashInfer 0.4 `NVCC_APPEND_FLAGS`) and
    `FLASHINFER_EXTRA_CFLAGS` (for .cpp files) come last and win. FlashInfer's cache must be cleared for them
    to count for operators whose build has been tried before.
    """
    if "flashinfer" not in consumers(packages, toolkits, environ):
        raise Skip("no FlashInfer that compiles at run time")
    wins = [level.variable for level in _levels(environ) if level.wins]
    if _debug(environ) or any(variable in _NVCC_LAST for variable in wins):
        return
    lost = [level for level in _levels(environ) if level.lowers and not level.wins]
    lost = [level for level in lost if not (wins and level.variable in _HOST)]
    if lost:
        yield _finding(lost, environ, packages)


def _debug(environ: Environ) -> bool:
    """Return whether FlashInfer builds with -O0: by one variable, or by another where that is not set."""
    asked = environ.get("FLASHINFER_JIT_DEBUG")
    return (environ.get("FLASHINFER_JIT_VERBOSE") if asked is None else asked) == "1"


class _Level(Struct, frozen=True):
    """The optimisation level that one variable ends up asking for."""

    variable: str
    flag: str
    level: str
    wins: bool  #: whether it comes after FlashInfer's own -O3
    why: str

    @property
    def lowers(self) -> bool:
        return self.level in _LOWERED


def _levels(environ: Environ) -> Iterator[_Level]:
    for variable in (*_HOST, "FLASHINFER_EXTRA_CFLAGS"):
        if found := _last_of_gcc(_words(environ.get(variable))):
            own = variable == "FLASHINFER_EXTRA_CFLAGS"
            yield _Level(variable, found, found[2:] or "1", own, "FlashInfer does not read it")
    for variable in _NVCC:
        own_level, handed_on = _of_nvcc(_words(environ.get(variable)))
        if own_level:
            last = variable in _NVCC_LAST
            yield _Level(
                variable, f"-O{own_level}", own_level, last, "FlashInfer's own -O3 comes later and wins"
            )
        if handed_on:
            flag = f"-Xcompiler {handed_on}"
            yield _Level(variable, flag, handed_on[2:] or "1", False, "nvcc puts its own -O3 after it")


def _words(value: str | None) -> list[str]:
    try:
        return shlex.split(value or "")
    except ValueError:
        return (value or "").split()


def _last_of_gcc(words: list[str]) -> str:
    """Return the level that GCC goes by: the last one."""
    return next((word for word in reversed(words) if re.fullmatch(r"-O(\d|s|g|z|fast)?", word)), "")


def _of_nvcc(words: list[str]) -> tuple[str, str]:
    """Return nvcc's own level, and the flag that it is told to hand to the host compiler."""
    own, handed_on, index = "", [], 0
    while index < len(words):
        option, equals, value = words[index].partition("=")
        takes_next = not equals and option in (*_ELSEWHERE, *_TO_HOST, "-O", "--optimize")
        if takes_next and index + 1 < len(words):
            index += 1
            value = words[index]
        if option in _TO_HOST:
            handed_on += value.split(",")
        elif option in ("-O", "--optimize"):
            own = value
        elif re.fullmatch(r"-O\d", option):
            own = option[2:]
        index += 1
    return own, _last_of_gcc(handed_on)


def _finding(lost: list[_Level], environ: Environ, packages: Packages) -> Finding:
    said = ", ".join(f"{level.flag} in {level.variable}" for level in lost)
    evidence = [
        Evidence(
            environ.where(level.variable), f"{level.variable}={environ.get(level.variable)}: {level.why}"
        )
        for level in lost
    ]
    return Finding(
        f"{said} has no effect on FlashInfer's builds: they use -O3",
        Severity.WARNING,
        tuple(evidence),
        (_remedy(lost, environ, packages),),
    )


def _remedy(lost: list[_Level], environ: Environ, packages: Packages) -> Remedy:
    """Return the same level where it comes last; nvcc knows numbers alone."""
    version = packages.flashinfer.version if packages.flashinfer else ""
    if numbers(version) < (0, 4):
        names = ["NVCC_APPEND_FLAGS"]
    else:
        # What is meant for the host compiler is meant for .cpp files too, which nvcc never sees.
        for_cpp = any(level.variable in _HOST for level in lost)
        names = ["FLASHINFER_EXTRA_CUDAFLAGS", *(["FLASHINFER_EXTRA_CFLAGS"] if for_cpp else [])]
    level = lost[-1].level
    flag = f"-O{level}" if level.isdigit() else "-O1"
    values = {name: " ".join(filter(None, (environ.get(name), flag))) for name in names}
    return export("lower-optimisation", **values)
