"""For which GPUs torch and vLLM have kernels, read off the libraries themselves.

The section .nv_fatbin is a row of containers, each with an entry for every GPU that a source file was
compiled for. Only their headers are read: some hundred pieces of 80 bytes of a file of a gigabyte. NVIDIA
does not document the layout; it was compared with what cuobjdump 13.1 lists for libtorch_cuda.so of torch
2.9.0 and 2.14.1 and _C.abi3.so of vLLM 0.12.0, where each count of each architecture agrees (2026-11).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from cudadoctor.facts import DeviceCode, Driver, Kernels, Packages
from cudadoctor.host import Host
from cudadoctor.probes.packages import root as import_root
from cudadoctor.simulate.kernels import covers

_CONTAINER, _ENTRY = 0xBA55ED50, {1: "ptx", 2: "sass"}
_HEADER_BYTES = 80
_ENTRIES = 600  #: that are read of one file: torch has the same list in each of its 400 containers
_SECTION, _FATBINS = struct.Struct("<IIQQQQIIQQ"), (b".nv_fatbin", b"__nv_relfatbin")
_SECTIONS_BYTES, _NAMES_BYTES = 1 << 16, 1 << 16
_VLLM = re.compile(r"_C(?:_stable_libtorch)?(?:\.abi3|\.cpython-[\w-]+)?\.so")


def probe(host: Host, packages: Packages, driver: Driver) -> Kernels:
    """Return what the libraries are compiled for; nothing where there is no GPU to run it."""
    capabilities = {gpu.capability for gpu in driver.gpus if gpu.capability}
    if not capabilities:
        return Kernels()
    return Kernels(tuple(read(host, *file, capabilities) for file in _files(host, packages)))


def _files(host: Host, packages: Packages) -> Iterator[tuple[str, str]]:
    if packages.torch is not None and packages.torch.cuda:
        yield "torch", f"{packages.torch.root}/lib/libtorch_cuda.so"
    if (vllm := packages.find("vllm")) is not None:
        root = import_root(host, vllm, "vllm")
        try:
            names = host.list(root)
        except OSError:
            return
        yield from (("vllm", f"{root}/{name}") for name in names if _VLLM.fullmatch(name))


def read(host: Host, package: str, path: str, capabilities: set[str]) -> DeviceCode:
    """Return what a library is compiled for, as far as it takes to know that it serves these GPUs."""
    code: dict[str, dict[str, None]] = {"sass": {}, "ptx": {}}
    try:
        for found in _containers(host, path):
            for kind, name in found:
                code[kind].setdefault(name)
            if all(any(covers(name, capability) for name in code["sass"]) for capability in capabilities):
                break
    except OSError as error:
        return DeviceCode(package, path, problem=error.strerror or str(error))
    except (struct.error, ValueError):
        return DeviceCode(package, path, problem="its headers are damaged")
    sass, ptx = (tuple(sorted(code[kind], key=_order)) for kind in ("sass", "ptx"))
    return DeviceCode(package, path, sass, ptx, "" if sass or ptx else "no GPU code was found in it")


def _order(name: str) -> tuple[int, int, str]:
    major, _, minor = name.partition(".")
    return int(major), int(minor.rstrip("a")), minor


def _containers(host: Host, path: str) -> Iterator[list[tuple[str, str]]]:
    """Yield what each container holds: ("sass", "8.6") for machine code. Raises ValueError for nonsense."""
    left = _ENTRIES
    for offset, end in _sections(host, path):
        while left > 0 and offset + 16 <= end:
            magic, _, header, size = struct.unpack_from("<IHHQ", host.read_at(path, offset, 16))
            if magic != _CONTAINER or header < 16:
                raise ValueError(magic)
            stop = offset + header + size
            entries = list(_entries(host, path, offset + header, min(stop, end), left))
            left -= len(entries) + 1
            yield [entry for entry in entries if entry[0]]
            offset = -(-stop // 8) * 8


def _entries(host: Host, path: str, offset: int, stop: int, most: int) -> Iterator[tuple[str, str]]:
    while offset + 32 <= stop and most > 0:
        head = host.read_at(path, offset, _HEADER_BYTES)
        kind, _, header, size = struct.unpack_from("<HHIQ", head)
        (architecture,) = struct.unpack_from("<I", head, 28)
        if header < 32 or architecture > 999:
            raise ValueError(architecture)
        (flags,) = struct.unpack_from("<Q", head, 40) if header >= 48 else (0,)
        specific = "a" if flags & 1 << 20 else ""
        yield _ENTRY.get(kind, ""), f"{architecture // 10}.{architecture % 10}{specific}"
        offset, most = offset + header + size, most - 1


def _sections(host: Host, path: str) -> Iterator[tuple[int, int]]:
    """Yield begin and end of the sections that hold GPU code, of a 64-bit little-endian file."""
    head = host.read_at(path, 0, 64)
    if head[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no such file")
    table, entry_bytes, count, names_at = struct.unpack_from("<40xQ10xHHH", head)
    if entry_bytes != _SECTION.size or names_at >= count or count * entry_bytes > _SECTIONS_BYTES:
        raise ValueError("section headers")
    sections = list(_SECTION.iter_unpack(host.read_at(path, table, count * entry_bytes)))
    if names_at >= len(sections):
        raise ValueError("section headers")
    names = host.read_at(path, sections[names_at][4], min(sections[names_at][5], _NAMES_BYTES))
    for section in sections:
        if names[section[0] : section[0] + 20].partition(b"\0")[0] in _FATBINS:
            yield section[4], section[4] + section[5]
