"""Drivers and GPUs made by hand: `driver(gpu("NVIDIA H100", "9.0"))` is one at work, whose parts agree."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from cudadoctor.facts import (
    DeviceCode,
    DeviceNode,
    Driver,
    DriverLibrary,
    Gpu,
    Kernels,
    Machine,
    Nvml,
    PciGpu,
)

from . import build

GIB = 1 << 30
VERSION = "550.54.14"
LIB = "/usr/lib/x86_64-linux-gnu"
PCI = PciGpu("0000:01:00.0", "0x2204", "nvidia")
SASS = ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0")


def gpu(
    name: str = "NVIDIA GeForce RTX 3090",
    capability: str = "8.6",
    gib: float | None = 24,
    used_gib: float = 0.25,
    **more: Any,
) -> Gpu:
    """Return one GPU; with `gib` None it reports no memory."""
    total, used = (None, None) if gib is None else (int(gib * GIB), int(used_gib * GIB))
    free = None if total is None or used is None else total - used
    return Gpu(
        more.pop("index", 0), name, capability, more.pop("uuid", "GPU-0a2b3c4d"), total, used, free, **more
    )


def library(version: str = VERSION, path: str = f"{LIB}/libcuda.so.1", **more: Any) -> DriverLibrary:
    """Return the driver's libcuda.so.1, in the loader's cache."""
    real = f"{path.rpartition('/')[0]}/libcuda.so.{version}" if version else ""
    return DriverLibrary(path, more.pop("found_by", "the loader's cache"), real, version, **more)


def driver(*gpus: Gpu, version: str = VERSION, cuda: str = "12.4", **more: Any) -> Driver:
    """Return a driver at work with these GPUs (one RTX 3090), but for the fields named."""
    held = tuple(structs.replace(each, index=index) for index, each in enumerate(gpus or (gpu(),)))
    nodes = tuple(DeviceNode(f"/dev/{name}", True) for name in ("nvidia0", "nvidia-uvm", "nvidiactl"))
    nvml = Nvml("answered", "", "", f"{LIB}/libnvidia-ml.so.{version}", version, version, cuda)
    healthy = Driver(
        version, "/proc/driver/nvidia/version", None, (library(version),), nodes, (PCI,), nvml=nvml, gpus=held
    )  # fmt: skip
    return structs.replace(healthy, **more)


def refused(error: str, reason: str = "what it says", version: str = VERSION) -> Nvml:
    """Return an NVML that did not start up."""
    return Nvml("refused", f"NVML_ERROR_{error}", reason, f"{LIB}/libnvidia-ml.so.{version}", version)


NO_NVML = Nvml("refused", "NVML_ERROR_LIBRARY_NOT_FOUND", "NVML Shared Library Not Found")
NOTHING = Driver(nvml=Nvml("not-asked", reason="nothing here looks like an NVIDIA GPU or driver"))


def kernels(*sass: str, ptx: tuple[str, ...] = (), package: str = "torch", problem: str = "") -> Kernels:
    """Return a library with code for these GPUs (what torch 2.14.1 has)."""
    path = f"{build.SITE}/{package}/lib/libtorch_cuda.so"
    return Kernels((DeviceCode(package, path, () if problem else sass or SASS, ptx, problem),))


def host(release: str = "Ubuntu 24.04.1 LTS", **more: Any) -> Machine:
    """Return the machine: `container` and `wsl` are what it may be."""
    return structs.replace(build.machine(available_gib=100), release=release, **more)
