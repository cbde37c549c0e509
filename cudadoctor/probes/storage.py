"""Where the installed stack writes to, and whether it can: rights, room and locks of each place.

Nothing is written to find out. A place costs a handful of system calls; caches are walked, and for a bounded
time, only where their file system is nearly full.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct, structs

from cudadoctor.facts import (
    Caches,
    Dlpack,
    Environ,
    FolderSize,
    Machine,
    Packages,
    Storage,
    StoragePlace,
    Target,
)
from cudadoctor.host import Host, Space
from cudadoctor.knowledge.storage import BUILD_BYTES, BUILD_FILES
from cudadoctor.probes.caches import Patient, architectures, user_name
from cudadoctor.probes.hub import hub_cache
from cudadoctor.probes.sizes import Budget, measure
from cudadoctor.versions import numbers

_DEFAULT = "the default"
_WALK_S, _WALK_ENTRIES = 0.3, 50_000
_LOOKED = 20  #: names in a folder among which a file is sought whose lock can be tried
_SOURCE_BYTES = 1 << 18
#: Those whose programs take locks (flock) in them.
_LOCKING = frozenset(("flashinfer", "tvm-ffi", "torchinductor", "hf-hub", "environment", "home"))

Why = Literal["", "refused", "read-only", "file", "dangling", "missing"]


def probe(
    host: Host,
    target: Target,
    environ: Environ,
    packages: Packages,
    machine: Machine,
    caches: Caches,
    dlpack: Dlpack,
) -> Storage:
    """Return each place that a program of the environment writes to, as it would go there now."""
    patient, locks = Patient(host, target, environ, packages, machine.home), _Locks(host)
    # Where HOME is a relative path, so are the defaults.
    wanted = (structs.replace(each, path=_absolute(patient, each.path)) for each in _wanted(patient, dlpack))
    places = tuple(_seen(host, each, locks) for each in wanted)
    if not any(place.blocked or place.unlocked or place.no_exec or _is_full(place) for place in places):
        return Storage(places)
    spares = (
        _Wanted("environment", f"{target.prefix}/var/cache", "", _DEFAULT),
        _Wanted("home", _absolute(patient, f"{machine.home.rstrip('/')}/.cache/stack"), "", _DEFAULT),
        _Wanted("temporary", "/tmp", "", _DEFAULT),
    )
    return Storage(
        places,
        _user(host),
        tuple(_seen(host, spare, locks) for spare in spares),
        tuple(_sizes(host, caches, {place.device for place in places if _is_full(place)})),
        any(place.unlocked == "ENOSYS" for place in places) and _has_soft_locks(host, packages),
    )


# --- where to -----------------------------------------------------------------------------------------------


class _Wanted(Struct, frozen=True):
    """A place that something writes to; `inner` are files and folders in it that it writes to as well."""

    name: str
    path: str
    variable: str
    source: str
    inner: tuple[str, ...] = ()


def _wanted(patient: Patient, dlpack: Dlpack) -> Iterator[_Wanted]:
    """Yield the places by the rules of the programs: FlashInfer 0.5.3 and 0.7.2 (jit/env.py, jit/core.py),
    torch 2.9.0 and 2.14.1 (utils/cpp_extension.py, _inductor/runtime/cache_dir_utils.py), Triton 3.5.0 and
    3.8.0 (knobs.py), vLLM 0.12.0 (envs.py), tvm-ffi 0.1.15 (_optional_torch_c_dlpack.py), read 2026-11-21.
    """
    packages, home = patient.packages, patient.home.rstrip("/")
    if packages.flashinfer is not None:
        yield _flashinfer(patient)
    if _builds_addon(patient, dlpack):
        locks = tuple(posixpath.basename(addon.cached) + ".lock" for addon in dlpack.addons)
        yield _Wanted("tvm-ffi", dlpack.cache, "TVM_FFI_CACHE_DIR", dlpack.cache_source, locks)
    if packages.triton is not None:
        base, source = _place(patient, "TRITON_HOME", home)
        path, named = _place(patient, "TRITON_CACHE_DIR", f"{base}/.triton/cache")
        yield _Wanted("triton", path, "TRITON_CACHE_DIR", source if named == _DEFAULT else named)
    if packages.find("vllm") is not None:
        path, source = patient.place("VLLM_CACHE_ROOT", f"{patient.cache_home}/vllm")
        yield _Wanted("vllm", path, "VLLM_CACHE_ROOT", source, ("torch_compile_cache",))
    if packages.torch is not None:
        yield from _torch(patient)
    if packages.find("huggingface-hub") is not None:
        path, source = hub_cache(patient)
        yield _Wanted("hf-hub", path, "HF_HUB_CACHE", source)


def _torch(patient: Patient) -> Iterator[_Wanted]:
    named = patient.environ.get("TMPDIR")
    # Empty counts as unset, for nvcc and for Python.
    temporary, source = (_absolute(patient, named), "TMPDIR") if named else ("/tmp", _DEFAULT)
    yield _Wanted("temporary", temporary, "TMPDIR", source)
    path, source = _place(patient, "TORCH_EXTENSIONS_DIR", f"{patient.cache_home}/torch_extensions")
    yield _Wanted("torch-extensions", path, "TORCH_EXTENSIONS_DIR", source)
    if user := user_name(patient.host):
        # Python's tempfile goes past what cannot be written to, which nvcc does not.
        variables = (patient.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
        folders = [_absolute(patient, value) for value in variables if value] + ["/tmp", "/var/tmp"]
        usable = [folder for folder in folders if patient.host.writable(folder)]
        default = f"{(usable or ['/tmp'])[0]}/torchinductor_{user}"
        path, source = _place(patient, "TORCHINDUCTOR_CACHE_DIR", default)
        yield _Wanted("torchinductor", path, "TORCHINDUCTOR_CACHE_DIR", source)


def _place(patient: Patient, variable: str, default: str) -> tuple[str, str]:
    """Return a folder by a variable that is taken as it stands: a tilde in it is a folder called so."""
    value = patient.environ.get(variable)
    return (default, _DEFAULT) if value is None else (_absolute(patient, value), variable)


def _absolute(patient: Patient, path: str) -> str:
    return path if path.startswith("/") else f"{patient.environ.cwd}/{path}".rstrip("/")


#: What FlashInfer writes to in its workspace, the log when it is imported.
_WORKSPACE = ("flashinfer_jit.log", "cached_ops", "cached_ops/tmp", "generated")


def _flashinfer(patient: Patient) -> _Wanted:
    """Return FlashInfer's workspace, which it makes when it is imported.

    Its folder is named for the GPUs. Where those are not told by a variable, one that can be written is taken
    for it, and the folder above where there is none yet.
    """
    assert patient.packages.flashinfer is not None
    base, source = _place(patient, "FLASHINFER_WORKSPACE_BASE", patient.home.rstrip("/"))
    version = patient.packages.flashinfer.version
    root = f"{base}/.cache/flashinfer"
    if numbers(version) >= (0, 4, 1):
        root = f"{root}/{version}"
        wanted = architectures(patient.environ)
        names = [wanted] if wanted else [name for name in patient.names(root) if name[:1].isdigit()]
        folders = [f"{root}/{name}" for name in names]
        root = next((folder for folder in folders if patient.host.writable(folder)), (folders or [root])[0])
    return _Wanted("flashinfer", root, "FLASHINFER_WORKSPACE_BASE", source, _WORKSPACE)


def _builds_addon(patient: Patient, dlpack: Dlpack) -> bool:
    """Return whether importing tvm-ffi will take its lock to build the add-on: there is none at all."""
    switched_off = dlpack.switch and patient.environ.get("TVM_FFI_DISABLE_TORCH_C_DLPACK") not in (None, "0")
    return (
        dlpack.native is False
        and dlpack.build == "script"
        and bool(dlpack.addons)
        and not switched_off
        and "setuptools" not in dlpack.missing
        and not any(addon.exists or addon.prebuilt for addon in dlpack.addons)
    )


# --- what is there ------------------------------------------------------------------------------------------


def _seen(host: Host, wanted: _Wanted, locks: _Locks) -> StoragePlace:
    nearest = _nearest(host, wanted.path)
    found = StoragePlace(wanted.name, wanted.path, wanted.variable, wanted.source, nearest)
    space = _space(host, nearest)
    if space is not None:
        found = structs.replace(
            found,
            device=space.device,
            free_bytes=space.free_bytes,
            free_files=space.free_files,
            no_exec=space.no_exec,
        )
    blocked, why = _blocked(host, wanted, nearest, space)
    if blocked:
        return structs.replace(found, blocked=blocked, why=why, owner=_owner(host, blocked))
    if wanted.name in _LOCKING:
        return structs.replace(found, unlocked=locks.refused(nearest, found.device, nearest == wanted.path))
    return found


def _nearest(host: Host, path: str) -> str:
    """Return as much of a path as is there; a link that leads nowhere is."""
    path = path.rstrip("/") or "/"
    if host.kind(path):
        return path
    while path != "/" and not host.kind(path, follow=False):
        path = posixpath.dirname(path)
    return path


def _space(host: Host, path: str) -> Space | None:
    try:
        return host.space(path)
    except OSError:
        return None


def _blocked(host: Host, wanted: _Wanted, nearest: str, space: Space | None) -> tuple[str, Why]:
    """Return what cannot be written to, and why; "" where everything can."""
    kind = host.kind(nearest)
    if kind != "directory":
        return nearest, "file" if kind else "dangling"
    if wanted.name == "temporary" and nearest != wanted.path:
        return wanted.path, "missing"  # nobody makes this one
    refused: Why = "read-only" if space is not None and space.read_only else "refused"
    paths = [f"{nearest}/{name}" for name in wanted.inner] if nearest == wanted.path else []
    if wanted.name == "tvm-ffi":
        return _lock_blocked(host, wanted, nearest, paths, refused)
    for path in (nearest, *paths):
        if not host.writable(path) and (path == nearest or host.kind(path)):
            return path, refused
    return "", ""


def _lock_blocked(
    host: Host, wanted: _Wanted, nearest: str, locks: list[str], refused: Why
) -> tuple[str, Why]:
    """Return what keeps tvm-ffi from its lock; where the folder cannot be made it gives up before.

    The lock file's name tells the device, which is not known: every one has to be out of reach.
    """
    if nearest != wanted.path:
        return "", ""
    writable = host.writable(nearest)
    stuck = [path for path in locks if not (host.writable(path) if host.kind(path) else writable)]
    if not locks or len(stuck) < len(locks):
        return "", ""
    return (stuck[0] if writable else nearest), refused


def _owner(host: Host, path: str) -> int:
    try:
        return host.owner(path)
    except OSError:
        return -1


def _user(host: Host) -> int:
    """Return this user's id as the kernel tells it, -1 where it does not."""
    try:
        text = host.read("/proc/self/status", 1 << 16).decode("utf-8", "replace")
    except OSError:
        return -1
    found = re.search(r"^Uid:\s+\d+\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else -1


# --- locks --------------------------------------------------------------------------------------------------


class _Locks:
    """Whether file systems give locks: each is tried once, or twice where only then it was on a file.

    The kernel locks folders of many network file systems by itself, and asks the server for files only. So a
    file is taken where the folder is a cache; in a home folder or in /tmp files belong to anybody.
    """

    def __init__(self, host: Host) -> None:
        self._host, self._known = host, dict[tuple[int, bool], str]()

    def refused(self, folder: str, device: int, own: bool) -> str:
        """Return why none is given in `folder`, "" where one is or that cannot be tried; `own`: a cache."""
        own = own or (device, True) in self._known
        if (device, own) not in self._known:
            self._known[device, own] = self._try(folder, own)
        return self._known[device, own]

    def _try(self, folder: str, own: bool) -> str:
        host = self._host
        try:
            paths = [f"{folder}/{name}" for name in host.list(folder)[:_LOOKED]] if own else []
            files = (path for path in paths if host.kind(path, follow=False) == "file")
            return host.lock_refused(next(files, folder))
        except OSError:
            return ""


def _has_soft_locks(host: Host, packages: Packages) -> bool:
    """Return whether the installed filelock goes on with a file in place of a lock where flock is missing."""
    filelock = packages.find("filelock")
    try:
        path = f"{filelock.location}/filelock/_unix.py" if filelock else ""
        return b"_fallback_to_soft_lock" in host.read(path, _SOURCE_BYTES)
    except OSError:
        return False


# --- room ---------------------------------------------------------------------------------------------------


def _is_full(place: StoragePlace) -> bool:
    """Return whether there is so little room that it is worth knowing what takes it."""
    return (place.free_bytes is not None and place.free_bytes < BUILD_BYTES) or (
        place.free_files is not None and place.free_files < BUILD_FILES
    )


def _sizes(host: Host, caches: Caches, devices: set[int]) -> Iterator[FolderSize]:
    budget = Budget(_WALK_S, _WALK_ENTRIES) if devices else None
    for folder in caches.folders:
        space = _space(host, folder.path)
        if budget is not None and space is not None and space.device in devices:
            size = measure(host, folder.path, budget)
            yield FolderSize(folder.name, folder.path, space.device, size.bytes, size.complete)
