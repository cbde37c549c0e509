"""The NVIDIA driver and its GPUs: what files tell, and what the driver's own library says when it is asked.

The library is asked only where a GPU or the library itself is evident; elsewhere that costs nothing.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from cudadoctor.bounded import Call
from cudadoctor.facts import (
    DeviceNode,
    Driver,
    DriverLibrary,
    Environ,
    Gpu,
    GpuProcess,
    Nvml,
    PciGpu,
)
from cudadoctor.host import Host, Ran, names_in, text_of
from cudadoctor.probes.ldcache import cached

TIMEOUT_S = 5.0
_CUDA, _NVML = "libcuda.so.1", "libnvidia-ml.so.1"
_WSL = "/usr/lib/wsl/lib"
_PCI = "/sys/bus/pci/devices"
_NODE = re.compile(r"nvidia\d+|nvidiactl|nvidia-uvm|nvidia-nvswitch(?:\d+|ctl)|dxg")
#: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 ..." or "... UNIX Open Kernel Module
#: for x86_64  560.35.03  Release Build ..."
_MODULE = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)")
_OF_LIBRARY = re.compile(r"\.so\.(\d{3,}(?:\.\d+)+)$")
_COMPAT = re.compile(r"/(?:cuda-)?compat(?:/|$)")


def probe(host: Host, environ: Environ) -> Driver:
    """Return the driver as a launch with these variables will find it."""
    seen = _by_files(host, environ)
    if not seen.signs() and not _library_in_reach(host, environ):
        return seen
    asked = Call(lambda: host.nvml(_variables(host, environ), timeout_s=TIMEOUT_S))
    built = None if seen.module or not seen.pci else _has_module(host)
    nvml, gpus = understood(asked.result())
    return msgspec.structs.replace(seen, built=built, nvml=nvml, gpus=gpus)


def _by_files(host: Host, environ: Environ) -> Driver:
    module, source = _module(host)
    asked_for = environ.get("NVIDIA_VISIBLE_DEVICES") or ""
    wsl = any(host.kind(f"{_WSL}/{name}") for name in (_CUDA, _NVML))
    return Driver(
        module=module,
        module_source=source,
        libraries=tuple(_libraries(host, environ)),
        nodes=_nodes(host),
        pci=_pci(host),
        asked_for="" if asked_for in ("none", "void") else asked_for,
        wsl=_WSL if wsl else "",
        nvml=Nvml("not-asked", reason="nothing here looks like an NVIDIA GPU or driver"),
    )


def _stated(host: Host, path: str) -> str:
    """Return the one word of a kernel's file, "" where it has none."""
    return text_of(host, path).strip()


def _module(host: Host) -> tuple[str, str]:
    """Return version and source of the kernel module that is loaded."""
    if match := _MODULE.search(text_of(host, "/proc/driver/nvidia/version")):
        return match[1], "/proc/driver/nvidia/version"
    version = _stated(host, "/sys/module/nvidia/version")
    return (version, "/sys/module/nvidia/version") if version else ("", "")


def _has_module(host: Host) -> bool | None:
    """Return whether the running kernel has a driver to load; None where its list cannot be read."""
    try:
        listed = host.read(f"/lib/modules/{host.uname()[1]}/modules.dep", 16 << 20)
    except OSError:
        return None
    return re.search(rb"(?:^|/)nvidia\.ko(?:\.\w+)?:", listed, re.MULTILINE) is not None


def _nodes(host: Host) -> tuple[DeviceNode, ...]:
    names = (name for name in names_in(host, "/dev") if _NODE.fullmatch(name))
    return tuple(DeviceNode(f"/dev/{name}", host.usable(f"/dev/{name}")) for name in names)


def _pci(host: Host) -> tuple[PciGpu, ...]:
    """Return the display and 3D controllers of vendor 10de."""
    found = []
    for address in names_in(host, _PCI):
        folder = f"{_PCI}/{address}"
        vendor, kind = (_stated(host, f"{folder}/{name}") for name in ("vendor", "class"))
        if vendor == "0x10de" and kind.startswith("0x03"):
            driver = host.realpath(f"{folder}/driver") if host.kind(f"{folder}/driver") else ""
            found.append(PciGpu(address, _stated(host, f"{folder}/device"), driver.rpartition("/")[2]))
    return tuple(found)


def _places(host: Host, environ: Environ, name: str) -> list[tuple[str, str]]:
    """Return each path that the loader may take for a library, in its order, and how it comes there."""
    entries = [entry or "." for entry in environ.entries("LD_LIBRARY_PATH")]
    named = [(f"{entry.rstrip('/')}/{name}", "LD_LIBRARY_PATH") for entry in entries]
    return [*named, *((path, "the loader's cache") for path in cached(host, name))]


def _library_in_reach(host: Host, environ: Environ) -> bool:
    return any(_loadable(host, path) for path, _ in _places(host, environ, _NVML))


def _libraries(host: Host, environ: Environ) -> list[DriverLibrary]:
    """Return each libcuda.so.1, but for stubs; those that the loader does not reach only without another."""
    found = [_library(host, path, by) for path, by in _places(host, environ, _CUDA) if _loadable(host, path)]
    found = [library for library in found if "/stubs/" not in (library.real or library.path)]
    if found:
        return found
    multiarch = f"/usr/lib/{host.uname()[2]}-linux-gnu"
    default = {"/lib64", "/usr/lib64", "/lib", "/usr/lib", multiarch}
    for folder in (*sorted(default), _WSL, "/run/opengl-driver/lib", f"{multiarch}/nvidia/current"):
        path = f"{folder}/{_CUDA}"
        if _loadable(host, path):
            found.append(_library(host, path, "a usual place", folder in default))
    return found


def _loadable(host: Host, path: str) -> bool:
    """Return whether there is a 64-bit ELF file for this machine; a 32-bit one stands beside it at times."""
    try:
        head = host.head(path, 20)
    except OSError:
        return False
    machine = {"x86_64": 62, "aarch64": 183}.get(host.uname()[2])
    return head[:5] == b"\x7fELF\x02" and (machine is None or head[18:20] == machine.to_bytes(2, "little"))


def _library(host: Host, path: str, found_by: str, reached: bool = True) -> DriverLibrary:
    real = host.realpath(path)
    compat = bool(_COMPAT.search(path.rpartition("/")[0]) or _COMPAT.search(real.rpartition("/")[0]))
    return DriverLibrary(path, found_by, "" if real == path else real, _version(real), compat, reached)


def _version(real: str) -> str:
    match = _OF_LIBRARY.search(real)
    return match[1] if match else ""


# --- NVML ---------------------------------------------------------------------------------------------------


class _Device(Struct):
    """One GPU in the answer of nvml.py."""

    index: int
    name: str | None = None
    uuid: str | None = None
    capability: tuple[int, int] | None = None
    memory: tuple[int, int, int] | None = None
    processes: list[tuple[int, int | None]] = []
    fabric: str = ""
    mig: bool | None = None
    mig_devices: list[str] = []
    problem: str = ""


class _Answer(Struct):
    """What nvml.py prints."""

    library: str = ""
    error: tuple[str, str] | None = None
    driver: str | None = None
    cuda: int | None = None
    gpus: list[_Device] = []


def _variables(host: Host, environ: Environ) -> dict[str, str]:
    """Return the current variables with the judged ones that say which library is loaded."""
    judged = {name: environ.get(name) for name in ("LD_LIBRARY_PATH", "LD_PRELOAD")}
    current = {name: value for name, value in host.environ.items() if name not in judged}
    return current | {name: value for name, value in judged.items() if value is not None}


def understood(ran: Ran) -> tuple[Nvml, tuple[Gpu, ...]]:
    """Return what NVML's process said before it ended, however that was."""
    if ran.timed_out:
        return Nvml("timeout", reason=f"NVML did not answer within {TIMEOUT_S:g} s"), ()
    try:
        answer = msgspec.json.decode(ran.stdout, type=_Answer)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return Nvml("crashed", reason=_death(ran)), ()
    version = _version(answer.library)
    if answer.error:
        name, text = answer.error
        return Nvml("refused", error=name, reason=text, library=answer.library, version=version), ()
    cuda = f"{answer.cuda // 1000}.{answer.cuda % 1000 // 10}" if answer.cuda else ""
    nvml = Nvml(
        "answered", library=answer.library, version=version, driver=answer.driver or "", cuda=cuda
    )  # fmt: skip
    return nvml, tuple(map(_gpu, answer.gpus))


def _death(ran: Ran) -> str:
    """Return how the process ended that gave no answer, with its last words."""
    if ran.problem:
        return f"asking NVML failed: {ran.problem}"
    lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
    said = f": {''.join(c if c.isprintable() else '?' for c in lines[-1])[:200]}" if lines else ""
    return f"the process that asked NVML {_ENDS.get(ran.status, f'ended with status {ran.status}')}{said}"


_ENDS = {-11: "crashed (SIGSEGV)", -6: "was aborted (SIGABRT)", -7: "crashed (SIGBUS)", -9: "was killed",
         -4: "crashed (SIGILL)", 0: "gave no answer"}  # fmt: skip


#: A total below it is no total: GPUs that share the system's memory report it in more ways than one.
_LEAST_MEMORY_BYTES = 16 << 20


def _capability(told: tuple[int, int] | None) -> str:
    """Return "8.6"; "" for numbers that can be none, as a driver that is out of order makes them up."""
    major, minor = told or (0, 0)
    return f"{major}.{minor}" if 0 < major < 100 and 0 <= minor < 10 else ""


def _gpu(device: _Device) -> Gpu:
    memory = device.memory if device.memory and device.memory[0] >= _LEAST_MEMORY_BYTES else None
    total, used, free = memory or (None, None, None)
    return Gpu(
        index=device.index,
        name=device.name or "",
        capability=_capability(device.capability),
        uuid=_short(device.uuid or ""),
        memory_total_bytes=total,
        memory_used_bytes=used,
        memory_free_bytes=free,
        mig=device.mig,
        mig_devices=tuple(map(_short, device.mig_devices)),
        fabric=device.fabric,
        processes=tuple(GpuProcess(pid, held) for pid, held in device.processes),
        problem=device.problem,
    )


def _short(uuid: str) -> str:
    """Return the beginning of a UUID: enough for CUDA_VISIBLE_DEVICES, too little to know a machine by."""
    kind, _, rest = uuid.partition("-")
    return f"{kind}-{rest[:8]}" if rest else ""
