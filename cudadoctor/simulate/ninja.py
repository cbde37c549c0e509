"""FlashInfer's build.ninja: what one says, what would be written now, and which operators stay behind."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator

from msgspec import Struct

from cudadoctor.facts import Caches, ConfiguredOp, Environ, Toolkits
from cudadoctor.simulate.lines import words

#: Variables whose values FlashInfer writes into a build.ninja (jit/cpp_ext.py and jit/core.py of 0.5.3 and
#: 0.7.2.post1, read 2026-11-21). LIBRARY_PATH and CPATH are not among them: the compiler itself reads those.
WRITTEN = frozenset((
    "CUDA_HOME", "CUDA_PATH", "CC", "CXX", "FLASHINFER_NVCC", "FLASHINFER_NVCC_THREADS",
    "FLASHINFER_EXTRA_CFLAGS", "FLASHINFER_EXTRA_CUDAFLAGS", "FLASHINFER_EXTRA_LDFLAGS",
    "FLASHINFER_JIT_DEBUG", "FLASHINFER_JIT_VERBOSE", "FLASHINFER_JIT_LINEINFO",
))  # fmt: skip


class Difference(Struct, frozen=True):
    """One variable that a build.ninja was written with and that would be written otherwise now."""

    variable: str
    was: str  #: as the file has it
    now: str  #: as FlashInfer would write it


def variables_of(text: str) -> dict[str, tuple[str, ...]]:
    """Return the variables at the head of a build.ninja, one entry a line of a value that goes over several.

    A text that ends in the middle, as one that was read in part, gives the variables that are whole.
    """
    found: dict[str, tuple[str, ...]] = {}
    name, entries = "", [""]
    for line in text.split("\n")[:-1]:
        if name:
            entries.append(line.strip())
        elif line.startswith(("rule ", "build ", "default ", "subninja ")):
            break
        else:
            name, equals, value = line.partition("=")
            name, entries = name.strip() if equals else "", [value.strip()]
        if entries[-1].endswith("$"):
            entries[-1] = entries[-1][:-1].rstrip()
        elif name:
            found[name], name = tuple(entries), ""
    return found


def differences(op: ConfiguredOp, root: str, environ: Environ, toolkits: Toolkits) -> Iterator[Difference]:
    """Yield what of an operator's build.ninja would be written otherwise with CUDA_HOME=`root`.

    Flags that are asked for and not in it count. Those in it that nobody asks for any more do not: they
    cannot be told from the operator's own.
    """
    if not _same_toolkit(op, root, toolkits):
        yield Difference("CUDA_HOME", f"cuda_home = {op.cuda_home}", root)
    cxx = environ.get("CXX")
    if op.cxx != (cxx := "c++" if cxx is None else cxx):
        yield Difference("CXX", f"cxx = {op.cxx}", cxx)
    nvcc = environ.get("FLASHINFER_NVCC")
    if op.nvcc != (nvcc := "$cuda_home/bin/nvcc" if nvcc is None else nvcc):
        yield Difference("FLASHINFER_NVCC", f"nvcc = {op.nvcc}", nvcc)
    was, cc = op.cuda_cflags[1:2] if op.cuda_cflags[:1] == ("-ccbin",) else (), environ.get("CC")
    if was != (() if cc is None else (cc,)):
        now = "no -ccbin" if cc is None else f"-ccbin {cc}"
        yield Difference("CC", f"-ccbin {was[0]}" if was else "no -ccbin", now)
    for variable, flags in (
        ("FLASHINFER_EXTRA_CFLAGS", op.cflags),
        ("FLASHINFER_EXTRA_CUDAFLAGS", op.cuda_cflags),
        ("FLASHINFER_EXTRA_LDFLAGS", op.ldflags),
    ):
        if lost := [flag for flag in words(environ.get(variable) or "") if flag not in flags]:
            yield Difference(variable, f"no {' '.join(lost)}", " ".join(lost))


def _same_toolkit(op: ConfiguredOp, root: str, toolkits: Toolkits) -> bool:
    """Return whether the operator's CUDA_HOME is `root`, if by another spelling."""
    if op.cuda_home.rstrip("/") == root.rstrip("/"):
        return True
    here = toolkits.at(root)
    real = (op.cuda_home_real or op.cuda_home).rstrip("/")
    return real == (here.real if here is not None else root.rstrip("/"))


def lock_of(op: ConfiguredOp) -> str:
    """Return the file that FlashInfer locks while it builds an operator."""
    return f"{posixpath.dirname(op.path)}/tmp/{op.name}.lock"


def is_building(op: ConfiguredOp, caches: Caches) -> bool:
    """Return whether a live process builds the operator right now."""
    return any(lock.held for lock in caches.locks if lock.path == lock_of(op))


def stale_after(names: Collection[str], caches: Caches) -> tuple[str, ...]:
    """Return the folders of the operators that would keep old values if these variables change.

    An operator that is built is none of them: ninja runs a command again where the command in build.ninja
    has changed, which a variable no longer does, so that it goes on working, and building it anew would take
    minutes and bring nothing. One that is being built right now is left alone.
    """
    if caches.rewrites or WRITTEN.isdisjoint(names):
        return ()
    return tuple(op.path for op in caches.ops if not is_building(op, caches))
