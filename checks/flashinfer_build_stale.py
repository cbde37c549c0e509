"""See the check's own page."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Sequence

from msgspec import Struct

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Caches, ConfiguredOp, Environ, Packages, Selection, Target, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.choice import consumers, lacks
from cudadoctor.simulate.ninja import Difference, differences, is_building

_SHOWN = 5


@check
def flashinfer_build_stale(
    caches: Caches, environ: Environ, packages: Packages, target: Target, toolkits: Toolkits
) -> Iterator[Finding]:
    """FlashInfer goes on building an operator the way it was set up before.

    ## What it means
    FlashInfer 0.4.0 to 0.6.11 writes an operator's `build.ninja` at its first build and never again. The
    `CUDA_HOME`, `CXX`, `CC`, `FLASHINFER_NVCC` and `FLASHINFER_EXTRA_*` of that time stay in it: where that
    build failed, the next one fails the same way, whatever has been set right since. Links in the toolkit,
    `LIBRARY_PATH` and `CPATH` do count. An operator that is built goes on working and is not reported, and
    later versions write the file before every build.

    ## How to tell
    `grep -E '^(cuda_home|cxx|nvcc) =' ~/.cache/flashinfer/*/*/cached_ops/*/build.ninja` shows other values
    than those that are set, for an operator whose folder holds no library of its name.

    ## What helps
    Another name for the operator's folder: FlashInfer then sets it up anew, with what is set now.
    """
    if "flashinfer" not in consumers(packages, toolkits, environ):
        raise Skip("no FlashInfer that compiles at run time")
    if caches.rewrites:
        raise Skip("this FlashInfer writes its build files before every build")
    selection = toolkits.selected("flashinfer")
    if selection is None or lacks(selection, toolkits):
        raise Skip("no CUDA toolkit is selected: cuda-home-wrong comes first")
    stale = []
    for op in caches.ops:
        found = [
            d
            for d in differences(op, selection.root, environ, toolkits)
            if _told(d, target, environ, selection)
        ]
        if found and not is_building(op, caches):
            stale.append(_Stale(op, tuple(found)))
    if stale:
        yield _finding(stale)


class _Stale(Struct, frozen=True):
    op: ConfiguredOp
    differences: tuple[Difference, ...]


def _told(difference: Difference, target: Target, environ: Environ, selection: Selection) -> bool:
    """Return whether it is sure what would be written now.

    Of an environment that is not active, what files tell of its activation is: a variable that they do not
    set may still be set by what only a shell understands.
    """
    if target.active:
        return True
    if difference.variable == "CUDA_HOME":
        return selection.rule in ("CUDA_HOME", "CUDA_PATH")
    return environ.get(difference.variable) is not None


def _finding(stale: Sequence[_Stale]) -> Finding:
    names = [each.op.name for each in stale]
    operators = names[0] if len(names) == 1 else f"{len(names)} operators"
    variables = ", ".join(dict.fromkeys(d.variable for each in stale for d in each.differences))
    return Finding(
        f"FlashInfer will build {operators} as set up before: {variables} as set now will not count",
        Severity.ERROR,
        tuple(_evidence(stale)),
        (Remedy("jit-caches", {each.op.path: "" for each in stale}, _command([e.op.path for e in stale])),),
    )


def _evidence(stale: Sequence[_Stale]) -> Iterator[Evidence]:
    for each in stale[:_SHOWN]:
        says = "; ".join(f"{d.was}, where {d.now} would be written now" for d in each.differences)
        yield Evidence(f"{each.op.path}/build.ninja", says)
    if (more := len(stale) - _SHOWN) > 0:
        yield Evidence(posixpath.dirname(stale[-1].op.path), f"and {more} more")


def _command(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return f"mv {shlex.quote(paths[0])} {shlex.quote(f'{paths[0]}.stale')}"
    return f'for op in {shlex.join(paths)}; do mv "$op" "$op.stale"; done'
