"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Driver, Environ, Gpu, Machine
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.devices import visible
from cudadoctor.verdicts import answered

_GIB = 1 << 30
_SHARE = 0.1  #: vLLM takes nine tenths by itself (gpu_memory_utilization)


@check
def gpu_memory_held(driver: Driver, environ: Environ, machine: Machine) -> Iterator[Finding]:
    """Other processes hold a good part of a GPU's memory.

    ## What it means
    vLLM takes 0.9 of a GPU's memory (0.92 in newer releases) and stops where that is not free: `Free memory
    on device cuda:0 (a/b GiB) on startup is less than desired GPU memory utilization`. Often an earlier run
    that was not ended still has it. Process numbers are those of the host: in a container they may belong
    to nobody here. A GPU that shares the system's memory (GB10) reports none of its own; there the system's
    free memory counts.

    ## How to tell
    `nvidia-smi --query-compute-apps=pid,used_memory --format=csv`

    ## What helps
    To end what is not needed any more, or `--gpu-memory-utilization` with what is left.
    """
    answered(driver)
    seen = visible(driver.gpus, environ)
    if not seen.gpus:
        raise Skip("no GPU is visible")
    found = [
        finding
        for gpu in seen.gpus
        for finding in (_shared if gpu.memory_total_bytes is None else _own)(gpu, machine)
    ]
    if seen.holds(found, seen.gpus):
        yield from found


def _own(gpu: Gpu, machine: Machine) -> Iterator[Finding]:
    total, used = gpu.memory_total_bytes or 0, gpu.memory_used_bytes or 0
    if used < _SHARE * total:
        return
    summary = f"{_gib(used)} of {_gib(total)} are in use on GPU {gpu.index} ({gpu.name})"
    free = total - used if gpu.memory_free_bytes is None else gpu.memory_free_bytes
    evidence = (Evidence("NVML", f"GPU {gpu.index}: {_gib(free)} free"), *_holders(gpu, machine))
    share = int(free / total * 100 - 2) / 100
    vllm = f"--gpu-memory-utilization {share:.2f}  # where vLLM shall make do with what is free"
    yield Finding(summary, Severity.NOTE, evidence, (Remedy("show", {}, vllm),) if share >= 0.1 else ())


def _shared(gpu: Gpu, machine: Machine) -> Iterator[Finding]:
    """Judge a GPU without memory of its own by what its processes hold of the system's."""
    used = sum(process.memory_bytes or 0 for process in gpu.processes)
    if used < _SHARE * machine.memory_total_bytes:
        return
    free = f"{_gib(machine.memory_available_bytes)} of {_gib(machine.memory_total_bytes)} are free"
    evidence = (Evidence("the system's memory", free), *_holders(gpu, machine))
    summary = f"other processes hold {_gib(used)} of the memory that GPU {gpu.index} ({gpu.name}) shares"
    yield Finding(summary, Severity.NOTE, evidence)


def _holders(gpu: Gpu, machine: Machine) -> Iterator[Evidence]:
    if not gpu.processes:
        who = (
            "nobody that can be seen from this container"
            if machine.container
            else "no process that NVML names"
        )
        yield Evidence("NVML", f"{who} holds it")
    of = " (of the host)" if machine.container else ""
    largest = sorted(gpu.processes, key=lambda process: -(process.memory_bytes or 0))
    for process in largest[:5]:
        amount = "an unknown amount" if process.memory_bytes is None else _gib(process.memory_bytes)
        yield Evidence(f"process {process.pid}{of}", f"holds {amount}")
    if len(largest) > 5:
        yield Evidence("NVML", f"and {len(largest) - 5} more")


def _gib(count_bytes: int) -> str:
    return f"{count_bytes / _GIB:.1f} GiB"
