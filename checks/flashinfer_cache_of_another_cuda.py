"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import BuiltOp, Caches, Packages, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.choice import lacks

_SHOWN = 5


@check
def flashinfer_cache_of_another_cuda(
    caches: Caches, packages: Packages, toolkits: Toolkits
) -> Iterator[Finding]:
    """An operator in FlashInfer's cache was built with a CUDA that is gone.

    ## What it means
    FlashInfer's cache is ordered by its own version and the GPU, and not by the CUDA that built it. After a
    change of torch, say from CUDA 12 to 13, an operator that is there is loaded as it is, and needs a
    `libcudart.so.12` that nothing brings any more: `cannot open shared object file`. And before 0.6.12 the
    file by which it is built keeps the toolkit of its first build: when that toolkit is removed ninja misses
    its headers, builds the operator again and finds no nvcc. An operator of another CUDA whose libraries are
    all found goes on working, and is not reported. It is a warning where the toolkit was exchanged in its
    folder: ninja builds the operator anew by itself where the new headers are younger than it.

    ## How to tell
    `ldd ~/.cache/flashinfer/*/*/cached_ops/*/*.so | grep 'not found'`.

    ## What helps
    Another name for the operator's folder: FlashInfer builds it anew at the next launch.
    """
    if packages.flashinfer is None:
        raise Skip("FlashInfer is not installed")
    if not caches.built:
        return
    selection = toolkits.selected("flashinfer")
    if selection is None or lacks(selection, toolkits):
        raise CannotTell("which CUDA toolkit would build the operators anew: cuda-home-wrong comes first")
    used = toolkits.at(selection.root)
    major = used.version.partition(".")[0] if used else ""
    hit = [op for op in caches.built if _stays(op, selection.root, major, caches)]
    if hit:
        # In a folder that now holds another toolkit the headers may be newer: ninja then builds by itself.
        sure = any(_elsewhere(op, selection.root) for op in hit)
        yield _finding(hit, Severity.ERROR if sure else Severity.WARNING)


def _elsewhere(op: BuiltOp, root: str) -> bool:
    return op.cuda_home.rstrip("/") != root.rstrip("/")


def _stays(op: BuiltOp, root: str, major: str, caches: Caches) -> bool:
    """Return whether the operator stays unusable as long as it is there, and would not if it were not.

    A FlashInfer that writes its build file anew builds by itself where the toolkit's folder is another one.
    """
    elsewhere = _elsewhere(op, root)
    if caches.rewrites and elsewhere:
        return False
    if op.gone:
        return elsewhere
    # The toolkit of today would build one that needs the very same library.
    return bool(major) and op.missing.rpartition(".")[2] != major


def _finding(hit: Sequence[BuiltOp], severity: Severity) -> Finding:
    what = f"the operator {hit[0].name}" if len(hit) == 1 else f"{len(hit)} operators"
    why = f"{hit[0].missing} is not found" if hit[0].missing else f"{hit[0].cuda_home} is gone"
    paths = [op.path for op in hit]
    command = f'for op in {shlex.join(paths)}; do mv "$op" "$op.aside"; done'
    if len(paths) == 1:
        command = f"mv {shlex.quote(paths[0])} {shlex.quote(paths[0] + '.aside')}"
    return Finding(
        f"FlashInfer can neither load nor rebuild {what} in its cache: {why}"
        if hit[0].gone
        else f"FlashInfer cannot load {what} in its cache: {why}",
        severity,
        tuple(_evidence(hit)),
        (Remedy("jit-caches", dict.fromkeys(paths, ""), command),),
    )


def _evidence(hit: Sequence[BuiltOp]) -> Iterator[Evidence]:
    for op in hit[:_SHOWN]:
        if op.missing:
            yield Evidence(f"{op.path}/{op.name}.so", f"needs {op.missing}, which is not found")
        if op.gone:
            yield Evidence(f"{op.path}/build.ninja", f"cuda_home = {op.cuda_home}, where there is no nvcc")
    if (more := len(hit) - _SHOWN) > 0:
        yield Evidence(hit[-1].path, f"and {more} more")
