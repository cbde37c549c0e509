"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Deep, Trial
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.verdicts import LABELS

_STEPS = {
    "compile": "compiling a C++ file with a CUDA header",
    "link": "linking",
    "nvcc": "compiling a kernel with nvcc",
}
_ENDED = {
    "error": "fails",
    "segfault": "crashes",
    "crash": "crashes",
    "killed": "is killed",
    "memory": "runs out of memory",
    "disk": "runs out of disk space",
    "timeout": "does not come to an end",
}


@check
def jit_build_fails(deep: Deep) -> Iterator[Finding]:
    """A real build of a small file, the way FlashInfer or torch would do it, fails.

    ## What it means
    `--deep` ran the very commands: the C++ compiler with the include path, the link line, and nvcc. What
    failed here fails in the first just-in-time build too, or in the first extension that is built.

    ## How to tell
    The finding shows the command and the line of its output that tells. A link needs no more than an empty
    object file to be tried by hand: `touch x.c; cc -fPIC -c x.c; c++ x.o -shared ... -lcudart`.

    ## What helps
    What the check of that cause says: `cudart-link-missing` and `libcuda-link-missing` for `cannot find -l`,
    `cuda-headers-missing` for `No such file or directory`, `host-compiler-unsupported` for `unsupported GNU
    version`, `host-compiler-crash` for `internal compiler error`. Where none of them has a finding, the
    output is the best hint there is.
    """
    tried = [trial for trial in deep.trials if trial.name in _STEPS]
    if not tried:
        raise Skip("nothing installed here compiles CUDA code")
    failed = [trial for trial in tried if trial.ended in _ENDED]
    yield from map(_finding, failed)
    untried = next((trial for trial in tried if trial.ended == "not-run"), None)
    if untried is not None and not failed:
        raise CannotTell(f"{untried.name}: {untried.message}")


def _finding(trial: Trial) -> Finding:
    who = LABELS.get(trial.consumer, trial.consumer)
    return Finding(
        f"{who}: {_STEPS[trial.name]} {_ENDED[trial.ended]}: {_without_place(trial.message)}",
        Severity.ERROR if trial.consumer == "flashinfer" else Severity.WARNING,
        (Evidence(shlex.join(trial.command), trial.message),),
    )


def _without_place(message: str) -> str:
    """Return what the message says, without the program or the line of our own file before it."""
    for mark in ("fatal error: ", "error: ", "ld: "):
        if mark in message:
            return message.partition(mark)[2]
    return message
