"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Driver, Environ, Gpu, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.devices import visible
from cudadoctor.verdicts import severity_without_gpu

#: What other checks explain, and what says nothing about the driver: another nvidia-ml-py, an odd library.
_ELSEWHERE = {
    "NVML_ERROR_DRIVER_NOT_LOADED": "see driver-missing",
    "NVML_ERROR_LIBRARY_NOT_FOUND": "see driver-missing",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "see driver-library-mismatch",
    "NVML_ERROR_NO_PERMISSION": "see gpu-not-visible",
    "NVML_ERROR_GPU_NOT_FOUND": "see gpu-not-visible",
}
_OURS = ("ImportError", "NVML_ERROR_FUNCTION_NOT_FOUND", "AttributeError")
_RESET = "sudo nvidia-smi --gpu-reset  # or restart the machine"


@check
def driver_not_answering(driver: Driver, environ: Environ, packages: Packages) -> Iterator[Finding]:
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
    if nvml.ended == "not-asked" or (nvml.ended == "refused" and not driver.signs()):
        raise Skip("no NVIDIA GPU is evident here")
    if nvml.ended == "timeout":
        raise CannotTell(
            f"{nvml.reason}: the driver hangs, or takes long to wake its GPUs (`time nvidia-smi`)"
        )
    if nvml.ended == "crashed" or nvml.error in _OURS:
        raise CannotTell(nvml.reason)
    if nvml.error in _ELSEWHERE:
        raise Skip(_ELSEWHERE[nvml.error])
    if nvml.error:
        evidence = (Evidence("NVML", f"{nvml.error}: {nvml.reason}"),)
        summary = f"the NVIDIA driver does not start up: {nvml.reason}"
        yield Finding(
            summary, severity, evidence, (Remedy("show", {}, "sudo dmesg | grep -i -e nvrm -e xid"),)
        )
    left = visible(driver.gpus, environ).gpus
    for gpu in driver.gpus:
        if gpu.problem and gpu.problem != "NVML_ERROR_NO_PERMISSION":
            yield _lost(gpu, severity if gpu in left else Severity.NOTE)


def _lost(gpu: Gpu, severity: Severity) -> Finding:
    name = f"GPU {gpu.index}" + (f" ({gpu.name})" if gpu.name else "")
    text = gpu.problem.removeprefix("NVML_ERROR_").replace("_", " ").lower()
    return Finding(
        f"{name} does not work: {text}", severity, (Evidence("NVML", f"GPU {gpu.index}: {gpu.problem}"),),
        (Remedy("show", {}, _RESET),),
    )  # fmt: skip
