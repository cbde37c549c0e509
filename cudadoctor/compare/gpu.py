"""The driver, its GPUs and the code for them as rows."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.compare.roots import Roots
from cudadoctor.compare.rows import Row, listed, size
from cudadoctor.facts import Driver, Gpu, Kernels, Ptxas


def driver(section: Driver, roots: Roots) -> Iterator[Row]:
    """Yield the driver's version, the library that the loader takes, and the GPUs by model."""
    if section.version:
        yield Row("driver", section.version, section.version, "driver", ("driver", section.module_source))
    if section.library is not None:
        of = section.library
        told = f"{of.version} at {of.path}".removeprefix(" at ") + (" (cuda-compat)" if of.compat else "")
        names = ("libcuda.so.1", roots.plain(of.path))
        yield Row("libcuda", roots.plain(told), told, "libcuda.so.1 that the loader takes", names)
    nvml = section.nvml
    if nvml.ended != "not-asked":
        told = " ".join(filter(None, (nvml.ended, nvml.error or nvml.reason)))
        yield Row("nvml", told, told, "the driver's management library", ("nvml",))
    if nvml.cuda:
        yield Row("cuda", nvml.cuda, nvml.cuda, "CUDA that the driver is of", ("driver",))
    if section.wsl:
        yield Row("wsl", section.wsl, section.wsl, "libraries of the driver in Windows")
    if section.asked_for:
        name = "NVIDIA_VISIBLE_DEVICES"
        yield Row("asked", section.asked_for, section.asked_for, name, (name,), "", "unset")
    for node in section.nodes:
        told = "usable" if node.usable else "not usable"
        yield Row(node.path, told, told, node.path, (node.path,), "device files", "missing")
    yield from _gpus(section)


def _gpus(section: Driver) -> Iterator[Row]:
    kinds: dict[str, int] = {}
    for gpu in section.gpus:
        kinds[_about(gpu)] = kinds.get(_about(gpu), 0) + 1
    told = listed(f"{number} x {about}" for about, number in kinds.items())
    if told:
        yield Row("gpus", told, told, "GPUs", ("gpu", *(gpu.name for gpu in section.gpus if gpu.name)))
    if section.pci and not section.gpus:
        found = listed(sorted(f"{gpu.device} ({gpu.driver or 'no driver'})" for gpu in section.pci))
        yield Row(
            "pci", found, found, "NVIDIA GPUs on the PCI bus", tuple(gpu.address for gpu in section.pci)
        )
    for gpu in section.gpus:
        yield from _state(gpu)


def _about(gpu: Gpu) -> str:
    memory = size(gpu.memory_total_bytes) if gpu.memory_total_bytes is not None else ""
    details = listed(filter(None, (gpu.capability, memory)))
    return f"{gpu.name or 'unknown'} ({details})" if details else gpu.name or "unknown"


def _state(gpu: Gpu) -> Iterator[Row]:
    """Yield what is special about one GPU, by its number."""
    named = (f"gpu {gpu.index}",)
    for what, told in (
        ("MIG", "" if not gpu.mig else "on"),
        ("fabric", gpu.fabric),
        ("trouble", gpu.problem),
    ):
        if told:
            yield Row(f"{what} {gpu.index}", told, told, f"{what} of GPU {gpu.index}", named)
    if gpu.memory_free_bytes is not None:
        free = gpu.memory_free_bytes
        yield Row(
            f"free {gpu.index}", free, size(free), f"memory free on GPU {gpu.index}", named, volatile=True
        )


def kernels(section: Kernels, roots: Roots) -> Iterator[Row]:
    """Yield for which GPUs each package has code."""
    for each in section.files:
        told = listed((*each.sass, *(f"PTX {ptx}" for ptx in each.ptx))) or each.problem or "no GPU code"
        plain = roots.plain(each.path)
        what = f"GPU code in {each.package}'s {each.path.rpartition('/')[2]}"
        yield Row(f"{each.package} {plain}", told, told, what, (plain, each.package))


def ptxas(section: Ptxas, roots: Roots) -> Iterator[Row]:
    """Yield the ptxas that Triton runs for each kind of GPU."""
    for use in section.uses:
        told = use.problem or f"{use.version} at {use.path}"
        names = tuple(filter(None, (roots.plain(use.path), use.variable)))
        what = f"ptxas that Triton runs for {use.capability}"
        yield Row(use.capability, roots.plain(told), told, what, names)
