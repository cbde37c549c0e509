"""The host: system, cores, memory and stack limits, container or WSL."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.facts import Machine
from cudadoctor.host import Host, text_of

_UNLIMITED = 1 << 60


def probe(host: Host) -> Machine:
    """Return what limits a build on this host."""
    system, kernel, arch = host.uname()
    memory, stack = host.memory(), host.stack()
    total, available = memory.total_bytes, memory.available_bytes
    for limit, used in _memory_limits(host):
        total, available = min(total, limit), min(available, max(0, limit - used))
    modules = host.environ.get("LOADEDMODULES", "")
    return Machine(
        arch=arch,
        system=system,
        release=host.release(),
        kernel=kernel,
        cores=_cores(host),
        memory_total_bytes=total,
        memory_available_bytes=available,
        stack_soft_kib=stack.soft_kib,
        stack_hard_kib=stack.hard_kib,
        container=_container(host),
        wsl="microsoft" in kernel.lower(),
        home=host.home(),
        modules=tuple(filter(None, modules.split(":"))),
    )


def _cgroups(host: Host, controller: str) -> list[str]:
    """Return this process's control groups for one controller, from its own to the root: each may limit it.

    A container sees its own group as the root, while /proc/self/cgroup may name a path from outside.
    """
    lines = [line.split(":", 2) for line in text_of(host, "/proc/self/cgroup").splitlines()]
    groups = [parts for parts in lines if len(parts) == 3]
    unified = next((path for _, names, path in groups if not names), "/")
    own = next((path for _, names, path in groups if controller in names.split(",")), "/")
    return [*_upwards("/sys/fs/cgroup", unified), *_upwards(f"/sys/fs/cgroup/{controller}", own)]


def _upwards(root: str, path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for count in range(len(parts), -1, -1):
        yield "/".join([root, *parts[:count]])


def _memory_limits(host: Host) -> Iterator[tuple[int, int]]:
    """Yield each limit on this process's memory, and what counts against it without the page cache."""
    for folder in _cgroups(host, "memory"):
        for limit_file, used_file, cache_name in _MEMORY_FILES:
            limit = _number(text_of(host, f"{folder}/{limit_file}"))
            if 0 < limit < _UNLIMITED:
                used = _number(text_of(host, f"{folder}/{used_file}"))
                told = text_of(host, f"{folder}/memory.stat")
                cache = re.search(rf"^{cache_name} (\d+)", told, re.MULTILINE)
                yield limit, max(0, used - (int(cache[1]) if cache else 0))


_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _number(text: str) -> int:
    """Return the number, or 0 for "max", "-1" and whatever else stands there."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _cores(host: Host) -> int:
    """Return the cores this process may use, a container's quota included."""
    cores = host.cores()
    for folder in _cgroups(host, "cpu"):
        quota, _, period = text_of(host, f"{folder}/cpu.max").partition(" ")
        if not quota:
            quota, period = (text_of(host, f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
        if _number(quota) and _number(period):
            cores = min(cores, -(-_number(quota) // _number(period)))
    return max(1, cores)


def _container(host: Host) -> str:
    """Return what kind of container this is, by the mark that each leaves, or ""."""
    if host.kind("/.dockerenv"):
        return "docker"
    if host.kind("/run/.containerenv"):
        return "podman"
    if host.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if name := host.environ.get("container") or text_of(host, "/run/systemd/container").strip():
        return name
    apptainer = host.environ.get("APPTAINER_CONTAINER") or host.environ.get("SINGULARITY_CONTAINER")
    return "apptainer" if apptainer or host.kind("/.singularity.d") == "directory" else ""
