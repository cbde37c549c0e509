"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Driver, Environ, Machine, Packages, Toolkit, Toolkits, TorchBuild
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge.drivers import OLDEST, cuda_of, first_for
from cudadoctor.simulate.choice import consumers, judged
from cudadoctor.simulate.devices import visible
from cudadoctor.simulate.kernels import covers, translates
from cudadoctor.verdicts import driver_to_get
from cudadoctor.versions import numbers, series

_MISMATCH = "NVML_ERROR_LIB_RM_VERSION_MISMATCH"


@check
def driver_too_old(
    driver: Driver, packages: Packages, toolkits: Toolkits, environ: Environ, machine: Machine
) -> Iterator[Finding]:
    """The driver is too old for torch's CUDA, or for what this nvcc makes.

    ## What it means
    A driver runs what was built with its own CUDA or any older one and, within one major, with newer ones too
    (minor-version compatibility): every CUDA 12 needs 525.60.13, every CUDA 13 needs 580.65.06. A driver of
    CUDA 12.4 is therefore right for torch 2.9 of CUDA 12.8, and too old for torch of CUDA 13: `The NVIDIA
    driver on your system is too old`. What this does not cover is PTX, which the driver itself translates: it
    knows only that of its own CUDA and older (`the provided PTX was compiled with an unsupported toolchain`,
    222). FlashInfer and Triton bring machine code; `TORCH_CUDA_ARCH_LIST` can leave a build with PTX alone.

    ## How to tell
    `nvidia-smi` (the CUDA version it shows is the driver's) against `python -c "import torch;
    print(torch.version.cuda)"`

    ## What helps
    A newer driver, or a torch of the driver's CUDA major. On data-centre GPUs also NVIDIA's cuda-compat.
    """
    torch = packages.torch
    if torch is None or not torch.cuda:
        raise Skip("no torch for CUDA is installed")
    if not driver.version:
        raise Skip("no NVIDIA driver is at work here")
    if driver.nvml.error == _MISMATCH:
        raise Skip("its kernel module is of another version than its libraries: see driver-library-mismatch")
    if not numbers(torch.cuda):
        raise CannotTell(f"torch says that its CUDA is {torch.cuda!r}, which is no version")
    reach = _reach(driver)
    if not numbers(reach):
        raise CannotTell(f"which CUDA the driver {driver.version} is of is not known")
    who = consumers(packages, toolkits, environ)
    toolkit = judged(toolkits, packages, who) if who else None
    findings = list(_beyond(reach, driver, torch, toolkit, environ, machine))
    compat = _compat(driver)
    if findings and compat is not None:
        path, farther = compat
        if not farther or not list(_beyond(farther, driver, torch, toolkit, environ, machine)):
            raise CannotTell(f"{path} is there to reach farther, and only NVML tells whether it does")
    yield from findings


def _beyond(
    reach: str, driver: Driver, torch: TorchBuild, toolkit: Toolkit | None, environ: Environ, machine: Machine
) -> Iterator[Finding]:
    """Yield what a driver that reaches as far as one CUDA release does not run."""
    if numbers(torch.cuda)[:1] > numbers(reach)[:1]:
        yield _finding(driver, f"torch {torch.version}", torch.cuda, reach, Severity.ERROR, machine)
    elif toolkit is not None and numbers(toolkit.version):
        yield from _of_toolkit(toolkit, reach, driver, environ, machine)


def _reach(driver: Driver) -> str:
    """Return the CUDA release that the driver is of, as it says itself or by the table; "" for neither."""
    return driver.nvml.cuda or cuda_of(driver.version)


def _compat(driver: Driver) -> tuple[str, str] | None:
    """Return path and CUDA release of the forward-compatibility library that stands in for the driver's own.

    None where there is none, or where NVML has said how far it reaches. An unknown release is "".
    """
    library = driver.library
    if driver.nvml.cuda or library is None or not library.compat:
        return None
    return library.path, cuda_of(library.version) if library.version else ""


def _finding(
    driver: Driver, what: str, cuda: str, reach: str, severity: Severity, machine: Machine
) -> Finding:
    major = cuda.partition(".")[0]
    least = OLDEST.get(major, "")
    needed = f"{least} or newer" if least else f"a driver of CUDA {major}"
    evidence = (
        Evidence(driver.module_source or "NVML", f"the driver is {driver.version}, of CUDA {reach}"),
        Evidence(what, f"is built with CUDA {cuda}, which needs {needed}"),
    )
    summary = f"the driver {driver.version} (CUDA {reach}) is too old for {what}: CUDA {cuda} needs {needed}"
    newer = driver_to_get(first_for(cuda) or least, machine)
    other = Remedy("show", {}, f"a build for CUDA {reach.partition('.')[0]} in place of {what}")
    return Finding(summary, severity, evidence, (newer, other))


def _of_toolkit(
    toolkit: Toolkit, reach: str, driver: Driver, environ: Environ, machine: Machine
) -> Iterator[Finding]:
    """Yield what is wrong with the programs that this nvcc makes, though torch itself runs."""
    release = series(toolkit.version)
    name = f"nvcc {toolkit.version}"
    if numbers(release)[:1] > numbers(reach)[:1]:
        yield _finding(driver, name, release, reach, Severity.WARNING, machine)
    elif numbers(release) > numbers(reach) and (gpu := _left_to_ptx(driver, environ)):
        value = environ.get("TORCH_CUDA_ARCH_LIST")
        evidence = (
            Evidence(environ.where("TORCH_CUDA_ARCH_LIST"), f"TORCH_CUDA_ARCH_LIST={value}"),
            Evidence("NVML", f"{gpu[0]}, of compute capability {gpu[1]}"),
            Evidence(driver.module_source or "NVML", f"the driver {driver.version} is of CUDA {reach}"),
        )
        summary = (
            f"what torch's extension builder makes for this GPU is PTX of CUDA {release}, and the driver "
            f"translates PTX of CUDA {reach} at most (error 222)"
        )
        command = f'export TORCH_CUDA_ARCH_LIST="{gpu[1]}"'
        yield Finding(summary, Severity.WARNING, evidence, (Remedy("show", {}, command),))


def _left_to_ptx(driver: Driver, environ: Environ) -> tuple[str, str] | None:
    """Return name and capability of a visible GPU for which TORCH_CUDA_ARCH_LIST leaves PTX alone."""
    entries = (environ.get("TORCH_CUDA_ARCH_LIST") or "").replace(";", " ").split()
    codes = [entry.removesuffix("+PTX") for entry in entries]
    if not codes or not all(len(numbers(code)) == 2 for code in codes):
        return None  # none, or by the name of a generation
    ptx = [code for code, entry in zip(codes, entries, strict=True) if entry.endswith("+PTX")]
    seen = visible(driver.gpus, environ)
    left = [
        gpu
        for gpu in seen.gpus
        if gpu.capability
        and not any(covers(code, gpu.capability) for code in codes)
        and any(translates(code, gpu.capability) for code in ptx)
    ]
    if left and not seen.holds(left, seen.gpus):
        raise CannotTell(seen.doubt)
    return (left[0].name, left[0].capability) if left else None
