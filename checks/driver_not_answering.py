"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Driver, Environ, Gpu, Machine, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.devices import visible
from cudadoctor.verdicts import severity_without_gpu

_MISMATCH = "NVML_ERROR_LIB_RM_VERSION_MISMATCH"
#: What says nothing about the driver: an odd library. So does every exception that is none of NVML's.
_ODD = "NVML_ERROR_FUNCTION_NOT_FOUND"
#: Errors of what is not there or not to be had, for which other checks know the cause in most cases.
_ABSENT = ("DRIVER_NOT_LOADED", "LIBRARY_NOT_FOUND", "NO_PERMISSION", "GPU_NOT_FOUND")
_SHOWN = 8  #: GPUs that are named one by one
_RESET = "sudo nvidia-smi --gpu-reset  # or restart the machine"


@check
def driver_not_answering(
    driver: Driver, environ: Environ, machine: Machine, packages: Packages
) -> Iterator[Finding]:
    """The driver is there and does not work: it reports an error, or a GPU of it is lost.

    ## What it means
    The driver's own library (NVML, which nvidia-smi uses as well) was asked in a process of its own. What it
    answers with `Unknown Error`, `GPU is lost` or `reset required` fails for CUDA too: a GPU has fallen off
    the bus, was not reset after an error, or could not be initialised. `dmesg | grep -i xid` has the
    kernel's word on it. Where there is no answer within 5 seconds the verdict is open: the driver hangs, or
    takes its time to wake many GPUs because persistence mode is off.

    ## How to tell
    `time nvidia-smi`

    ## What helps
    `sudo nvidia-smi --gpu-reset` where nothing uses the GPU, otherwise a restart of the machine. A GPU that
    is lost again and again has a fault of power, heat or seating.
    """
    severity = severity_without_gpu(packages)
    nvml = driver.nvml
    if nvml.error == _MISMATCH:
        raise Skip("see driver-library-mismatch")
    if nvml.ended == "not-asked" or (nvml.ended == "refused" and not driver.signs()):
        raise Skip("no NVIDIA GPU is evident here")
    if nvml.ended == "timeout":
        raise CannotTell(
            f"{nvml.reason}: the driver hangs, or takes long to wake its GPUs (`time nvidia-smi`)"
        )
    if nvml.ended == "crashed" or (nvml.error and _is_of_ours(nvml.error)):
        raise CannotTell(nvml.reason)
    if nvml.error:
        if elsewhere := _told_elsewhere(driver, machine):
            raise Skip(elsewhere)
        yield _not_starting(driver, machine, severity)
    seen = visible(driver.gpus, environ)
    lost = [gpu for gpu in driver.gpus if gpu.problem and gpu.problem != "NVML_ERROR_NO_PERMISSION"]
    meant = [gpu for gpu in lost if gpu in seen.gpus]
    worst = severity if seen.holds(meant, seen.gpus) else Severity.WARNING
    kinds = dict.fromkeys((gpu.problem, gpu in meant) for gpu in lost)
    for problem, counts in kinds:
        alike = [gpu for gpu in lost if gpu.problem == problem and (gpu in meant) == counts]
        yield _lost(alike, worst if counts else Severity.NOTE)


def _is_of_ours(error: str) -> bool:
    """Return whether an error is of those who asked, or of an odd library, and not the driver's word."""
    return error == _ODD or not error.startswith(("NVML_ERROR_", "NVML error "))


def _told_elsewhere(driver: Driver, machine: Machine) -> str:
    """Return which check has the cause of an NVML that does not start up; "" where none has.

    What is said here has to be so: each of these checks reports exactly in the cases that are left to it.
    """
    error = driver.nvml.error.removeprefix("NVML_ERROR_")
    if error not in _ABSENT:
        return ""
    there, hidden = bool(driver.gpu_nodes or driver.wsl), "see gpu-not-visible"
    if error in ("NO_PERMISSION", "GPU_NOT_FOUND") or driver.closed_nodes:
        return hidden
    if machine.container:
        away = not there or driver.library is None or error == "LIBRARY_NOT_FOUND"
        return hidden if away else ""
    if not driver.is_evident:
        return "NVIDIA_VISIBLE_DEVICES asks for GPUs, and none is evident here"
    if not (driver.module or driver.wsl) or driver.library is None or error == "LIBRARY_NOT_FOUND":
        return "see driver-missing"
    return "" if there else hidden


def _not_starting(driver: Driver, machine: Machine, severity: Severity) -> Finding:
    nvml = driver.nvml
    signs = (Evidence(source, detail) for source, detail in driver.signs())
    evidence = (Evidence("NVML", f"{nvml.error}: {nvml.reason}"), *signs)
    command = "sudo dmesg | grep -i -e nvrm -e xid"
    remedy = f"on the host of this container: {command}" if machine.container else command
    summary = f"the NVIDIA driver does not start up: {nvml.reason}"
    return Finding(summary, severity, evidence, (Remedy("show", {}, remedy),))


def _lost(gpus: list[Gpu], severity: Severity) -> Finding:
    """Return what is wrong with GPUs that all have the same problem."""
    text = gpus[0].problem.removeprefix("NVML_ERROR_").replace("_", " ").lower()
    names = [f"GPU {gpu.index}" + (f" ({gpu.name})" if gpu.name else "") for gpu in gpus]
    evidence = [Evidence("NVML", f"{name}: {gpus[0].problem}") for name in names[:_SHOWN]]
    if more := len(gpus) - _SHOWN if len(gpus) > _SHOWN else 0:
        evidence.append(Evidence("NVML", f"{more} more: {gpus[0].problem}"))
    what = f"{names[0]} does" if len(gpus) == 1 else f"{len(gpus)} GPUs do"
    return Finding(f"{what} not work: {text}", severity, tuple(evidence), (Remedy("show", {}, _RESET),))
