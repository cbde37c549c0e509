"""The host: system, cores, memory and stack limits, container or WSL."""

from __future__ import annotations

import re

from cudadoctor.facts import Machine
from cudadoctor.host import Host

_UNLIMITED = 1 << 60


def probe(host: Host) -> Machine:
    """Return what limits a build on this host."""
    system, kernel, arch = host.uname()
    memory, stack = host.memory(), host.stack()
    limit, used = _cgroup_memory(host)
    available = min(memory.available_bytes, max(0, limit - used)) if limit else memory.available_bytes
    modules = host.environ.get("LOADEDMODULES", "")
    return Machine(
        arch=arch,
        system=system,
        release=host.release(),
        kernel=kernel,
        cores=_cores(host),
        memory_total_bytes=min(memory.total_bytes, limit) if limit else memory.total_bytes,
        memory_available_bytes=available,
        stack_soft_kib=stack.soft_kib,
        stack_hard_kib=stack.hard_kib,
        container=_container(host),
        wsl="microsoft" in kernel.lower(),
        home=host.home(),
        modules=tuple(filter(None, modules.split(":"))),
    )


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path, 1 << 16).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _cgroup_folder(host: Host) -> str:
    """Return this process's folder in the unified hierarchy; the root where a container hides the rest."""
    match = re.search(r"^0::(/.*)$", _text(host, "/proc/self/cgroup"), re.MULTILINE)
    folder = f"/sys/fs/cgroup{match[1]}".rstrip("/") if match else "/sys/fs/cgroup"
    return folder if host.kind(f"{folder}/memory.max") == "file" else "/sys/fs/cgroup"


def _cgroup_memory(host: Host) -> tuple[int, int]:
    """Return the container's memory limit and what it uses without the page cache; 0 where unlimited."""
    folder = _cgroup_folder(host)
    limit, used = _text(host, f"{folder}/memory.max"), _text(host, f"{folder}/memory.current")
    cache = re.search(r"^inactive_file (\d+)", _text(host, f"{folder}/memory.stat"), re.MULTILINE)
    if not limit.isdigit():
        old = "/sys/fs/cgroup/memory"
        limit, used = _text(host, f"{old}/memory.limit_in_bytes"), _text(host, f"{old}/memory.usage_in_bytes")
        cache = re.search(r"^total_inactive_file (\d+)", _text(host, f"{old}/memory.stat"), re.MULTILINE)
    if not limit.isdigit() or int(limit) > _UNLIMITED:
        return 0, 0
    return int(limit), max(0, (int(used) if used.isdigit() else 0) - (int(cache[1]) if cache else 0))


def _cores(host: Host) -> int:
    """Return the cores this process may use, a container's quota included."""
    quota, _, period = _text(host, f"{_cgroup_folder(host)}/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        return max(1, min(host.cores(), -(-int(quota) // int(period))))
    return host.cores()


def _container(host: Host) -> str:
    if host.kind("/.dockerenv"):
        return "docker"
    if host.kind("/run/.containerenv"):
        return "podman"
    if host.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if name := host.environ.get("container"):
        return name
    return "apptainer" if host.kind("/.singularity.d") == "directory" else ""
