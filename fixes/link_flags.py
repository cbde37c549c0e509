"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Export, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy

_NAME = "FLASHINFER_EXTRA_LDFLAGS"


@fix(Safety.SAFE)
def link_flags(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Names the folders of the CUDA libraries on FlashInfer's own link line.

    ## What it does
    The environment's activation files export `FLASHINFER_EXTRA_LDFLAGS` with a `-L` for each folder, behind
    the flags that it holds already. It is for compilers that LIBRARY_PATH does not reach: a wrapper that
    clears the variables, a GCC that was built to compile for another machine. An operator whose link has
    failed before would keep its old line: the same run moves FlashInfer's cache of it aside (`jit-caches`).

    ## Why it is safe
    The folders come after those that the line names itself, so that a library that was found there is found
    there still. The variable changes no file of anybody's package.

    ## How it is undone
    The activation files get their former content back.
    """
    folder = r"-L/[\w@%+=,./-]+"
    for name, value in values.appended(remedy, [_NAME], rf"{folder}( {folder})*", facts).items():
        yield Export(name, value)
