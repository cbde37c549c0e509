"""See the check's own page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Compilers, Deep, Environ, Machine, Trial
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.verdicts import LABELS

#: GCC's driver raises the soft stack limit to 64 MiB by itself, as far as the hard one allows.
_STACK_KIB = 64 << 10
_PLENTY_BYTES = 4 << 30
_FULL = "No space left on device"


@check
def host_compiler_crash(
    deep: Deep, machine: Machine, compilers: Compilers, environ: Environ
) -> Iterator[Finding]:
    """The host compiler crashes on template-heavy code that is optimised.

    ## What it means
    FlashInfer and nvcc have the host compiler work at `-O3`. `--deep` lets it compile a source that makes the
    optimiser recurse, at `-O3`, then `-O2`, then `-O1`, and tells from the output what stopped it: the stack
    (a *hard* limit below the 64 MiB that GCC takes by itself), memory, a full TMPDIR, or a bug of its own.

    ## How to tell
    `g++: internal compiler error: Segmentation fault signal terminated program cc1plus` is the stack;
    `Killed signal terminated program cc1plus` is memory, as a rule; `internal compiler error: in ...` is a
    bug. `ulimit -Hs` shows the limit, and only the hard one matters.

    ## What helps
    For the stack, `ulimit -s unlimited` where the hard limit is set: a shell cannot raise its own. For
    memory, fewer jobs at a time: `MAX_JOBS=1`. For a bug, another compiler, or `-O1` by
    `FLASHINFER_EXTRA_CUDAFLAGS`, `FLASHINFER_EXTRA_CFLAGS` or `NVCC_APPEND_FLAGS`: it changes the host code
    only, the kernels keep their optimisation. Run-time builds do not read
    `CXXFLAGS`. A FlashInfer build that failed
    before keeps its old flags until `flashinfer clear-cache`.
    """
    if not deep.trials:
        raise Skip("nothing installed here compiles CUDA code")
    if full := next((t for t in deep.trials if t.ended == "not-run" and _FULL in t.message), None):
        yield _no_space(full, environ)
        return
    crashed = False
    climbs = _climbs(deep)
    for rungs in climbs:
        alone = sum(other[0].consumer == rungs[0].consumer for other in climbs) == 1
        if rungs[0].ended in _SAYS and not _lowered(rungs, alone, compilers, environ):
            crashed = True
            yield _finding(rungs, machine, compilers, environ)
    unsure = [rungs[0].message for rungs in climbs if rungs[0].ended == "not-run"]
    if not crashed and (unsure or not climbs):
        raise CannotTell(unsure[0] if unsure else "the host compiler was not tried")


_SAYS = {
    "segfault": "crashes",
    "crash": "crashes",
    "killed": "is killed",
    "memory": "runs out of memory",
    "disk": "runs out of disk space",
    "timeout": "does not come to an end",
}


def _climbs(deep: Deep) -> list[list[Trial]]:
    """Return the rungs of each compiler, the highest level first."""
    found: dict[tuple[str, str], list[Trial]] = {}
    for trial in deep.trials:
        if trial.name == "ladder":
            found.setdefault((trial.consumer, trial.compiler), []).append(trial)
    return list(found.values())


def _finding(rungs: Sequence[Trial], machine: Machine, compilers: Compilers, environ: Environ) -> Finding:
    top, holds = rungs[0], _holds(rungs)
    broken = [rung.level for rung in rungs if rung.ended != "ok"]
    below = f"{holds} is the highest level that passes" if holds else "no level passes"
    summary = (
        f"{_named(top.compiler, compilers)}, the host compiler of {LABELS.get(top.consumer, top.consumer)}, "
        f"{_SAYS[top.ended]} at {' and '.join(broken)}{_cause(top, machine)}; {below}"
    )
    at_run_time = top.consumer == "flashinfer" and top.ended != "timeout"
    return Finding(
        summary,
        Severity.ERROR if at_run_time else Severity.WARNING,
        tuple(_evidence(rungs, machine, environ)),
        tuple(_remedies(top, holds, machine, environ)),
    )


def _holds(rungs: Sequence[Trial]) -> str:
    return next((rung.level for rung in rungs if rung.ended == "ok"), "")


def _named(command: str, compilers: Compilers) -> str:
    compiler = compilers.compilers.get(command)
    return f"{command} ({compiler.family} {compiler.version})" if compiler and compiler.version else command


def _stack_limited(machine: Machine) -> bool:
    return machine.stack_hard_kib is not None and machine.stack_hard_kib < _STACK_KIB


def _cause(top: Trial, machine: Machine) -> str:
    """Return what is behind it, as far as it was seen."""
    available = f"{machine.memory_available_bytes / (1 << 30):.1f} GiB of memory available"
    match top.ended:
        case "segfault" if _stack_limited(machine):
            return f": the hard stack limit is only {machine.stack_hard_kib} KiB"
        case "segfault":
            return " with a segmentation fault"
        case "killed" | "memory" if machine.memory_available_bytes >= _PLENTY_BYTES:
            return f" with {available}: a limit on the process or its container, then"
        case "killed" | "memory":
            return f" with {available}"
        case _:
            return ""


def _evidence(rungs: Sequence[Trial], machine: Machine, environ: Environ) -> Iterator[Evidence]:
    for rung in rungs:
        yield Evidence(shlex.join(rung.command), rung.message or "passes")
    match rungs[0].ended:
        case "segfault":
            limit = "unlimited" if machine.stack_hard_kib is None else f"{machine.stack_hard_kib} KiB"
            yield Evidence("ulimit -Hs", limit)
        case "killed" | "memory":
            yield Evidence("memory", f"{machine.memory_available_bytes >> 20} MiB available")
        case "disk":
            yield Evidence(environ.where("TMPDIR"), environ.get("TMPDIR") or "not set: /tmp")


def _remedies(top: Trial, holds: str, machine: Machine, environ: Environ) -> Iterator[Remedy]:
    match top.ended:
        case "segfault" if _stack_limited(machine):
            where = "limits.conf, LimitSTACK=, docker run --ulimit stack=-1"
            how = f"ulimit -s unlimited  # where the hard limit is set: {where}"
            lower = (_lower(top.consumer, environ),) if holds else ()
            yield Remedy("stack-limit", {"limit": "unlimited"}, how, lower)
        case "segfault" | "crash" | "timeout" if holds:
            yield _lower(top.consumer, environ)
        case "killed" | "memory":
            how = "export MAX_JOBS=1  # and free memory, or raise the limit on it"
            yield Remedy("max-jobs", {"MAX_JOBS": "1"}, how)
        case "disk":
            yield _elsewhere()


def _elsewhere() -> Remedy:
    return Remedy("show", {}, "export TMPDIR=/path  # a folder with space left")


def _lower(consumer: str, environ: Environ) -> Remedy:
    """Set `-O1` by the variables that are read; what they hold stays, the last level counts."""
    names: tuple[str, ...] = ("NVCC_APPEND_FLAGS",)
    if consumer == "flashinfer":
        names = ("FLASHINFER_EXTRA_CUDAFLAGS", "FLASHINFER_EXTRA_CFLAGS")
    values = {name: f"{environ.get(name) or ''} -O1".strip() for name in names}
    return export("lower-optimisation", **values)


def _lowered(rungs: Sequence[Trial], alone: bool, compilers: Compilers, environ: Environ) -> bool:
    """Return whether variables already have the compiler work at a level that passes, in each of its jobs.

    One that climbed `alone` does both: nvcc's host code, and FlashInfer's .cpp files.
    """
    top, holds = rungs[0], _holds(rungs)
    device = compilers.used_by(top.consumer, "device")
    for_nvcc = device is not None and device[0].command == top.compiler
    flashinfer, jobs = top.consumer == "flashinfer", []
    if for_nvcc:
        own = ["FLASHINFER_EXTRA_CUDAFLAGS"] if flashinfer else []
        jobs.append([*own, "NVCC_APPEND_FLAGS"])
    if flashinfer and (alone or not for_nvcc):
        jobs.append(["FLASHINFER_EXTRA_CFLAGS"])
    levels = [_last_level(job, environ) for job in jobs]
    return bool(holds and levels) and all(level and level <= holds for level in levels)


def _last_level(names: Sequence[str], environ: Environ) -> str:
    flags = " ".join(environ.get(name) or "" for name in names)
    return next(iter(re.findall(r"(?<!\S)-O\d(?!\S)", flags)[::-1]), "")


def _no_space(trial: Trial, environ: Environ) -> Finding:
    severity = Severity.ERROR if trial.consumer == "flashinfer" else Severity.WARNING
    place = Evidence(environ.where("TMPDIR"), environ.get("TMPDIR") or "not set: /tmp")
    return Finding(
        "no space is left for a compiler's temporary files: every build will stop",
        severity,
        (Evidence("a temporary folder", trial.message), place),
        (_elsewhere(),),
    )
