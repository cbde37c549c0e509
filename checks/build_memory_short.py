"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Environ, Machine, Packages, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate.choice import consumers
from cudadoctor.versions import numbers


class _Unit(Struct, frozen=True):
    """One kind of source file: what nvcc takes for one, and how many of it a build has."""

    what: str
    peak_bytes: int
    files: int
    source: str


# Read on 2026-11-21. The usual one was measured: batch_prefill for FP8 keys and values, FlashInfer 0.5.3.
_USUAL = _Unit(
    "attention operators", int(0.7 * (1 << 30)), 11, "0.68 GiB measured for one file of batch_prefill"
)
_LARGE = _Unit(
    "CUTLASS FP4 and MoE operators", 3 << 30, 85,
    "3 to 8 GB for one file (https://github.com/flashinfer-ai/flashinfer/issues/3634)",
)  # fmt: skip


@check
def build_memory_short(
    environ: Environ, machine: Machine, packages: Packages, toolkits: Toolkits
) -> Iterator[Finding]:
    """FlashInfer's build starts more compilers at a time than the memory holds.

    ## What it means
    ninja starts two more jobs than there are cores unless `MAX_JOBS` says otherwise, and nobody looks at the
    memory. One file of an attention operator takes nvcc 0.7 GiB, one of the CUTLASS operators for FP4 and
    mixtures of experts 3 to 8 GB. When the memory is used up the kernel ends a compiler: `Killed signal
    terminated program cc1plus`, ninja's `FAILED: [code=137]`, or another program's end. It is a note as long
    as only the large operators are too much, which many models never build.

    ## How to tell
    `free -g` against the number of jobs, which `ninja -h` shows as the default of `-j`.

    ## What helps
    `MAX_JOBS` with a number that fits; the package `flashinfer-jit-cache`, which brings most operators
    prebuilt.
    """
    if "flashinfer" not in consumers(packages, toolkits, environ):
        raise Skip("no FlashInfer that compiles at run time")
    if environ.get("FLASHINFER_DISABLE_JIT"):
        raise Skip("FLASHINFER_DISABLE_JIT is set: FlashInfer compiles nothing")
    jobs = _jobs(environ, machine)
    if jobs.ignored:
        yield _ignored(jobs, environ, machine)
    if packages.flashinfer is not None and packages.flashinfer.jit_cache:
        return
    if machine.memory_total_bytes <= 0:
        raise CannotTell("the size of the memory is not known")
    for unit, severity in ((_USUAL, Severity.WARNING), (_LARGE, Severity.NOTE)):
        running = min(jobs.number, unit.files)
        if running > 1 and running * unit.peak_bytes > machine.memory_available_bytes:
            yield _short(unit, running, severity, jobs, environ, machine)
            return


class _Jobs(Struct, frozen=True):
    number: int
    why: str
    ignored: bool = False  #: whether MAX_JOBS is set to something that FlashInfer does not take


def _jobs(environ: Environ, machine: Machine) -> _Jobs:
    """Return how many jobs ninja will run: MAX_JOBS where it is all digits, of which 0 means no limit."""
    value = environ.get("MAX_JOBS")
    if value and value.isdecimal():
        number = numbers(value)[0]
        return _Jobs(
            number or _LARGE.files, f"MAX_JOBS={value}" + ("" if number else ", which means no limit")
        )
    default = _ninja_default(machine.cores)
    return _Jobs(default, f"ninja's default for {machine.cores} cores is {default} jobs", bool(value))


def _ninja_default(cores: int) -> int:
    """Return what ninja's GuessParallelism gives; `ninja -h` shows it."""
    return {0: 2, 1: 2, 2: 3}.get(cores, cores + 2)


def _fitting(machine: Machine, unit: _Unit) -> int:
    return max(1, machine.memory_available_bytes // unit.peak_bytes)


def _gib(count_bytes: float) -> str:
    return f"{count_bytes / (1 << 30):.1f} GiB"


def _ignored(jobs: _Jobs, environ: Environ, machine: Machine) -> Finding:
    value = environ.get("MAX_JOBS")
    return Finding(
        f"MAX_JOBS={value} is no number: FlashInfer ignores it",
        Severity.WARNING,
        (Evidence(environ.where("MAX_JOBS"), f"MAX_JOBS={value!r}"), Evidence("ninja", jobs.why)),
        (_remedy(min(jobs.number, _fitting(machine, _LARGE))),),
    )


def _short(
    unit: _Unit, running: int, severity: Severity, jobs: _Jobs, environ: Environ, machine: Machine
) -> Finding:
    needed, free = _gib(running * unit.peak_bytes), _gib(machine.memory_available_bytes)
    set_by = environ.where("MAX_JOBS") if jobs.why.startswith("MAX_JOBS") else "ninja"
    where = f"in the {machine.container} container" if machine.container else "on this machine"
    return Finding(
        f"building FlashInfer's {unit.what} takes {needed} with {running} jobs, {free} are free",
        severity,
        (
            Evidence(set_by, jobs.why),
            Evidence("memory", f"{free} of {_gib(machine.memory_total_bytes)} are free {where}"),
            Evidence("nvcc", unit.source),
        ),
        (_remedy(_fitting(machine, _LARGE)),),
    )


def _remedy(jobs: int) -> Remedy:
    return export("max-jobs", MAX_JOBS=str(jobs))
