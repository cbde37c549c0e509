"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import DeviceCode, Driver, Environ, Gpu, Kernels, Packages, Paths, Toolkit, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge.drivers import SINCE, UNTIL, cuda_of
from cudadoctor.simulate.choice import consumers, judged
from cudadoctor.simulate.devices import visible
from cudadoctor.simulate.kernels import covers, translates
from cudadoctor.verdicts import answered, severity_for
from cudadoctor.versions import numbers


@check
def gpu_architecture_unsupported(
    driver: Driver,
    kernels: Kernels,
    packages: Packages,
    toolkits: Toolkits,
    environ: Environ,
    paths: Paths | None = None,
) -> Iterator[Finding]:
    """torch or vLLM has no code for this GPU, or nvcc cannot make any.

    ## What it means
    Machine code of compute capability 8.0 runs on 8.6 and 8.9, that of 12.0 on 12.1, and none on a GPU of
    another major: an RTX 50 (12.0) under a torch that ends at 9.0, or a GTX 10 (6.1) under one that begins
    at 7.0, stops with `no kernel image is available for execution on the device` (209). What a library is
    compiled for is read off the library. torch's warning `Found GPU0 NVIDIA GB10 which is of cuda capability
    12.1. Minimum and Maximum cuda capability supported by this version of PyTorch is (8.0) - (12.0)` is
    cosmetic: the code for 12.0 runs there. nvcc knows the GPUs of its time: `nvcc fatal: Unsupported gpu
    architecture 'compute_120'` before 12.8.

    ## How to tell
    `python -c "import torch; print(torch.cuda.get_arch_list(), torch.cuda.get_device_capability())"`

    ## What helps
    A build for the GPU: of CUDA 12.8 or newer for Blackwell, of CUDA 12.6 for Maxwell, Pascal and Volta.
    """
    answered(driver)
    seen = visible(driver.gpus, environ)
    gpus = [gpu for gpu in seen.gpus if gpu.capability]
    if not gpus:
        raise Skip("no GPU is visible")
    kinds = list({gpu.capability: gpu for gpu in gpus}.values())
    found = [
        *_of_libraries(kernels, kinds, driver, packages),
        _of_nvcc(kinds, packages, toolkits, environ, paths),
    ]
    every = {gpu.capability for gpu in seen.gpus}
    sure = [each for findings in found for each in findings if seen.holds(findings, every)]
    yield from sure
    if not any(map(_matters, sure)):
        if any(map(_matters, (each for findings in found for each in findings))):
            raise CannotTell(seen.doubt)
        if unread := next((code for code in kernels.files if code.problem), None):
            raise CannotTell(f"{unread.path}: {unread.problem}")


def _matters(finding: Finding) -> bool:
    return finding.severity is not Severity.NOTE


def _of_libraries(
    kernels: Kernels, kinds: list[Gpu], driver: Driver, packages: Packages
) -> Iterator[list[Finding]]:
    """Yield what is to be said of each library, a finding for each kind of GPU that it concerns."""
    for code in kernels.files:
        if not code.problem:
            without = [gpu for gpu in kinds if not _runs(code, gpu, driver, packages)]
            alone = len(without) == len(kinds)
            yield [_finding(code, gpu, driver, alone) for gpu in without]
            yield list(_cosmetic(code, kinds))


def _runs(code: DeviceCode, gpu: Gpu, driver: Driver, packages: Packages) -> bool:
    """Return whether the library has code for a GPU that will run.

    PTX needs a driver of the CUDA that it was made with: of torch's, or of a newer one.
    """
    if any(covers(own, gpu.capability) for own in code.sass):
        return True
    reach = numbers(driver.nvml.cuda or cuda_of(driver.version))
    made_with = numbers(packages.torch.cuda) if packages.torch else ()
    return reach >= made_with and any(translates(own, gpu.capability) for own in code.ptx)


def _finding(code: DeviceCode, gpu: Gpu, driver: Driver, alone: bool) -> Finding:
    held = ", ".join(code.sass) or "no machine code"
    evidence = (
        Evidence(
            code.path, f"has code for {held}" + (f" and PTX of {', '.join(code.ptx)}" if code.ptx else "")
        ),
        Evidence("NVML", f"GPU {gpu.index}: {gpu.name}, compute capability {gpu.capability}"),
    )
    name = {"torch": "torch", "vllm": "vLLM"}.get(code.package, code.package)
    summary = f"{name} has no code for {gpu.name} (compute capability {gpu.capability})"
    severity = Severity.ERROR if alone else Severity.WARNING
    return Finding(summary, severity, evidence, (Remedy("show", {}, _cure(name, code, gpu)),))


def _cure(name: str, code: DeviceCode, gpu: Gpu) -> str:
    oldest = min((numbers(own) for own in code.sass), default=(0, 0))
    if numbers(gpu.capability) < oldest:
        return f"a {name} for an older CUDA: those of CUDA 12.6 were the last for Maxwell, Pascal and Volta"
    since = SINCE.get(gpu.capability, "")
    return f"a {name} that is built with CUDA {since} or newer" if since else f"a newer {name}"


def _cosmetic(code: DeviceCode, gpus: list[Gpu]) -> Iterator[Finding]:
    """Say that torch's warning on a GPU newer than its newest code is nothing, where that code does run."""
    newest = max((numbers(own) for own in code.sass), default=(0, 0))
    for gpu in gpus:
        newer = numbers(gpu.capability) > newest
        if code.package == "torch" and newer and any(covers(own, gpu.capability) for own in code.sass):
            nearest = ".".join(map(str, newest))
            yield Finding(
                f"torch may warn that {gpu.name} ({gpu.capability}) is not supported: its code for {nearest} "
                "runs there, the warning is cosmetic",
                Severity.NOTE,
                (Evidence(code.path, f"has code for {', '.join(code.sass)}"),),
            )


def _of_nvcc(
    gpus: list[Gpu], packages: Packages, toolkits: Toolkits, environ: Environ, paths: Paths | None
) -> list[Finding]:
    """Return for which kinds of GPU nvcc cannot compile, a finding for each."""
    who = consumers(packages, toolkits, environ)
    toolkit = judged(toolkits, packages, who) if who else None
    if toolkit is None or not numbers(toolkit.version):
        return []
    version, found = numbers(toolkit.version), []
    for gpu in gpus:
        since, until = SINCE.get(gpu.capability, ""), UNTIL.get(str(version[0]), "")
        too_old = bool(since) and version < numbers(since)
        if too_old or (until and numbers(gpu.capability) < numbers(until)):
            need = f"{since} or newer" if too_old else f"{version[0] - 1}"
            found.append(_not_by_nvcc(toolkit, gpu, severity_for(who, packages, paths), need))
    return found


def _not_by_nvcc(toolkit: Toolkit, gpu: Gpu, severity: Severity, need: str) -> Finding:
    return Finding(
        f"nvcc {toolkit.version} cannot compile for {gpu.name} (compute capability {gpu.capability})",
        severity,
        (
            Evidence(toolkit.nvcc or toolkit.root, f"is of CUDA {toolkit.version}"),
            Evidence("NVML", f"GPU {gpu.index}: compute capability {gpu.capability}"),
        ),
        (Remedy("show", {}, f"a toolkit of CUDA {need}"),),
    )
