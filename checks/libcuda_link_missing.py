"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Compilers, Environ, Libraries, Packages, Paths, Toolkits
from cudadoctor.findings import Finding
from cudadoctor.simulate.lines import Scene
from cudadoctor.verdicts import link_misses


@check
def libcuda_link_missing(
    toolkits: Toolkits,
    compilers: Compilers,
    libraries: Libraries,
    environ: Environ,
    packages: Packages,
    paths: Paths | None = None,
) -> Iterator[Finding]:
    """The linker cannot find `-lcuda`, the driver library or its stub, on FlashInfer's or Triton's line.

    ## What it means
    A just-in-time build stops with `cannot find -lcuda`. The driver brings `libcuda.so.1`; the link name
    `libcuda.so` comes with it on most machines, else from the stub in a toolkit's `lib64/stubs`. Containers
    often have neither. A `LIBRARY_PATH` with `lib` but not `lib/stubs` finds cudart and still fails here.

    ## How to tell
    `g++ -shared x.o -L"$CUDA_HOME/lib64/stubs" -lcuda` fails.

    ## What helps
    A `CUDA_HOME` whose `lib64/stubs` holds the stub; in a conda environment `lib64 -> lib`; else the package
    with the stub (`cuda-driver-dev`). The stub serves the link alone: it must never be on LD_LIBRARY_PATH.
    """
    yield from link_misses("cuda", Scene(toolkits, compilers, libraries, environ, packages), paths)
