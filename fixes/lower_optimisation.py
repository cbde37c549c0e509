"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Export, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy

_READ = ("FLASHINFER_EXTRA_CUDAFLAGS", "FLASHINFER_EXTRA_CFLAGS", "NVCC_APPEND_FLAGS")


@fix(Safety.UNSAFE)
def lower_optimisation(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Has the host compiler optimise less, by the flags that come last in FlashInfer's builds.

    ## What it does
    The environment's activation files export `FLASHINFER_EXTRA_CUDAFLAGS`, `FLASHINFER_EXTRA_CFLAGS` or
    `NVCC_APPEND_FLAGS` with the lower level behind the flags that the variable holds already. An operator
    whose build has been tried before would keep its old flags: the same run moves FlashInfer's cache of it
    aside (`jit-caches`).

    ## Why it is safe
    It is not free: the host code of every operator that is built from now on runs slower, kernels keep their
    optimisation. The same operators are built. So it is done with `--unsafe` only.

    ## How it is undone
    The activation files get their former content back; operators that were built in the meantime stay as
    they are until they are built again.
    """
    for name, value in values.appended(remedy, _READ, r"-O[0-3]", facts).items():
        yield Export(name, value)
