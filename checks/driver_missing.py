"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Driver, Machine, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.verdicts import driver_to_get, severity_without_gpu


@check
def driver_missing(driver: Driver, machine: Machine, packages: Packages) -> Iterator[Finding]:
    """An NVIDIA GPU is here, and its driver is not installed, or not at work.

    ## What it means
    The driver has two halves of the same version: the kernel module and, in user space, `libcuda.so.1` with
    `libnvidia-ml.so.1`. Without the module `cudaGetDeviceCount` fails with `no CUDA-capable device is
    detected` (100) or `unknown error` (999); without the libraries torch says `Found no NVIDIA driver on your
    system`, and vLLM, which asks `libnvidia-ml.so.1`, `Failed to infer device type`. After an update of the
    kernel the module may not have been built for the new one; nouveau, the other driver, keeps it out.

    ## How to tell
    `cat /proc/driver/nvidia/version; lspci -k -d 10de::03xx; ldconfig -p | grep -e libcuda -e nvidia-ml`

    ## What helps
    The driver as the distribution packages it, and a restart. In a container nothing: there the driver comes
    from outside. No package of CUDA, pip or conda brings a driver.
    """
    severity = severity_without_gpu(packages)
    if not driver.signs():
        raise Skip("no NVIDIA GPU is evident here")
    if machine.container:
        raise Skip("in a container the driver comes from outside")
    if not driver.is_evident:
        raise Skip("NVIDIA_VISIBLE_DEVICES asks for GPUs, and none is evident here")
    if not (driver.module or driver.wsl or driver.nvml.ended == "answered"):
        yield _without_module(driver, machine, severity)
    elif driver.library is None:
        yield _without_library(driver, machine, severity)
    elif driver.nvml.error == "NVML_ERROR_LIBRARY_NOT_FOUND":
        yield _without_nvml(driver, machine, packages)


def _signs(driver: Driver) -> tuple[Evidence, ...]:
    return tuple(Evidence(source, detail) for source, detail in driver.signs())


def _without_module(driver: Driver, machine: Machine, severity: Severity) -> Finding:
    other = next((gpu for gpu in driver.pci if gpu.driver not in ("", "nvidia")), None)
    evidence = list(_signs(driver))
    if other is not None:
        evidence.append(
            Evidence(f"/sys/bus/pci/devices/{other.address}/driver", f"{other.driver} has this GPU")
        )
    if driver.built is False:
        evidence.append(Evidence(f"/lib/modules/{machine.kernel}", "no nvidia.ko for the running kernel"))
    if driver.library is None:
        evidence.append(Evidence("/etc/ld.so.cache", "no libcuda.so.1: the driver is not installed"))
        summary = "no NVIDIA driver is installed, though a GPU is here"
        return Finding(summary, severity, tuple(evidence), (driver_to_get("", machine),))
    library = driver.library
    evidence.append(
        Evidence(library.path, f"the library of driver {library.version or 'of unknown version'}")
    )
    return Finding(
        f"the NVIDIA kernel module is not loaded{_why(driver, machine)}", severity, tuple(evidence),
        (_load(driver, machine),),
    )  # fmt: skip


def _why(driver: Driver, machine: Machine) -> str:
    if any(gpu.driver == "nouveau" for gpu in driver.pci):
        return ": nouveau has the GPU"
    if driver.built is False:
        return f": there is none for the running kernel {machine.kernel}"
    return ""


def _load(driver: Driver, machine: Machine) -> Remedy:
    if any(gpu.driver == "nouveau" for gpu in driver.pci):
        return Remedy(
            "show", {}, "restart the machine with nouveau blacklisted, as the driver's package does it"
        )
    if driver.built is False:
        install = driver_to_get("", machine).summary
        return Remedy(
            "show", {}, f"{install}  # again, with the headers of {machine.kernel}: it builds the module"
        )
    return Remedy("show", {}, "sudo modprobe nvidia  # what it prints, or `dmesg`, says why it does not load")


def _without_library(driver: Driver, machine: Machine, severity: Severity) -> Finding:
    evidence, away = list(_signs(driver)), next(iter(driver.libraries), None)
    if away is not None:
        evidence.append(Evidence(away.path, "is there, where the loader does not look"))
        summary = f"the loader does not find the driver's libcuda.so.1, though {away.path} is there"
        folder = away.path.rpartition("/")[0]
        command = f"echo {shlex.quote(folder)} | sudo tee /etc/ld.so.conf.d/nvidia.conf && sudo ldconfig"
        return Finding(summary, severity, tuple(evidence), (Remedy("show", {}, command),))
    evidence.append(Evidence("/etc/ld.so.cache", "no libcuda.so.1"))
    summary = f"the kernel module {driver.module or 'of the driver'} is loaded, but there is no libcuda.so.1"
    return Finding(summary, severity, tuple(evidence), (driver_to_get("", machine),))


def _without_nvml(driver: Driver, machine: Machine, packages: Packages) -> Finding:
    asks = packages.find("vllm") is not None
    summary = "libcuda.so.1 is here, but its libnvidia-ml.so.1 cannot be loaded"
    evidence = (*_signs(driver), Evidence("libnvidia-ml.so.1", driver.nvml.reason))
    severity = Severity.ERROR if asks else Severity.WARNING
    return Finding(summary, severity, evidence, (driver_to_get("", machine),))
