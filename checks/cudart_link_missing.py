"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Compilers, Environ, Libraries, Packages, Paths, Toolkits
from cudadoctor.findings import Finding
from cudadoctor.simulate.lines import Scene
from cudadoctor.verdicts import link_misses


@check
def cudart_link_missing(
    toolkits: Toolkits,
    compilers: Compilers,
    libraries: Libraries,
    environ: Environ,
    packages: Packages,
    paths: Paths | None = None,
) -> Iterator[Finding]:
    """The linker cannot find `-lcudart` on the line that FlashInfer and torch will use.

    ## What it means
    A just-in-time build compiles for minutes and then stops with `cannot find -lcudart`. FlashInfer looks in
    `$CUDA_HOME/lib64` and `$CUDA_HOME/lib64/stubs` only; a conda environment has `lib`, and pip's CUDA
    packages have `libcudart.so.13` but no `libcudart.so`. `LD_LIBRARY_PATH` has no effect on a link:
    `LIBRARY_PATH` has.

    ## How to tell
    `g++ -shared x.o -L"$CUDA_HOME/lib64" -L"$CUDA_HOME/lib64/stubs" -lcudart` fails.

    ## What helps
    A right `CUDA_HOME`; else one relative link (`lib64 -> lib`, or `lib64/libcudart.so` to the versioned
    file); else the development package that brings the link name.
    """
    yield from link_misses("cudart", Scene(toolkits, compilers, libraries, environ, packages), paths)
