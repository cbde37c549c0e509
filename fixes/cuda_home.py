"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Export, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy


@fix(Safety.SAFE)
def cuda_home(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Sets CUDA_HOME to a toolkit that is whole.

    ## What it does
    The environment's activation files export `CUDA_HOME` with the folder of a toolkit that has nvcc and the
    runtime's headers, of the CUDA major that torch is built for. torch, FlashInfer and tvm-ffi take
    `CUDA_HOME` before `CUDA_PATH` and before the nvcc on PATH.

    ## Why it is safe
    A variable changes no file of anybody's package, and holds while the environment is active only. A launch
    that is running keeps the value it was started with. CMake does not read the variable.

    ## How it is undone
    The activation files get their former content back; the variable's former value is there again after the
    next activation.
    """
    yield Export("CUDA_HOME", values.path(remedy, "CUDA_HOME"))
