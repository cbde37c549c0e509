"""What just-in-time builds left behind: operators that are not built or cannot be used, folders, locks.

Nothing is walked: one listing of each cache that a check asks about. Of FlashInfer's operators those are
opened that have no library yet, and three of the others; where one of these cannot be used, all are.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from cudadoctor.facts import (
    BuiltOp,
    CacheFolder,
    Caches,
    ConfiguredOp,
    Environ,
    Lock,
    Machine,
    Packages,
    Target,
)
from cudadoctor.host import Host
from cudadoctor.probes.ldcache import read_cache
from cudadoctor.probes.packages import root as import_root
from cudadoctor.simulate.ninja import lock_of, variables_of
from cudadoctor.simulate.ninja_deps import headers_of
from cudadoctor.versions import numbers

_ENTRIES = 2_000  #: of one folder that are looked at
_HEAD_BYTES = 1 << 16
_SOURCE_BYTES = 1 << 20
_LOG_BYTES = 1 << 24  #: one log of all operators; that of one has 160 KB
_DEFAULT = "the default"


def probe(host: Host, target: Target, environ: Environ, packages: Packages, machine: Machine) -> Caches:
    """Return what the caches of the target's own versions hold."""
    patient = Patient(host, target, environ, packages, machine.home)
    rewrites = _rewrites(patient)
    operators = list(_operator_folders(patient, rewrites))
    names = {folder: patient.names(folder) for folder, _ in operators}
    ops = [] if rewrites else [op for folder in names for op in _unbuilt(patient, folder, names[folder])]
    folders = [_Folder("flashinfer", folder, source) for folder, source in operators]
    extensions = _extensions(patient)
    folders += [*extensions, *_other_folders(patient)]
    locks = [Lock(path, "advisory", host.locked(path)) for path in map(lock_of, ops) if host.kind(path)]
    locks += _judged(host, [path for folder in extensions for path in _batons(patient, folder.path)])
    built = tuple(op for folder in names for op in _unusable(patient, folder, names[folder]))
    return Caches(tuple(ops), rewrites, tuple(_own(host, folders)), tuple(locks), built)


class Patient(Struct, frozen=True):
    """Whose caches are looked for, and by which rules a variable becomes a path."""

    host: Host
    target: Target
    environ: Environ
    packages: Packages
    home: str

    def place(self, variable: str, default: str) -> tuple[str, str]:
        """Return a folder by its variable, else the default, and which of them it was."""
        value = self.environ.get(variable)
        return (default, _DEFAULT) if value is None else (self.absolute(value), variable)

    def absolute(self, path: str) -> str:
        """Return a path as Python's own `expanduser` and the current folder make it."""
        if path == "~" or path.startswith("~/"):
            path = self.home + path[1:]
        return path if path.startswith("/") else f"{self.environ.cwd}/{path}".rstrip("/")

    @property
    def cache_home(self) -> str:
        """Return the folder that caches are in by default."""
        return self.place("XDG_CACHE_HOME", f"{self.home}/.cache")[0]

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, none where it cannot be listed; not those that begin with a dot."""
        try:
            return [name for name in self.host.list(folder)[:_ENTRIES] if not name.startswith(".")]
        except OSError:
            return []


# --- FlashInfer's operators ---------------------------------------------------------------------------------


def _rewrites(patient: Patient) -> bool:
    """Return whether the installed FlashInfer writes build.ninja before every build, by its own source.

    It does not from 0.4.0 to 0.6.11 (jit/core.py of the tags v0.3.1, v0.4.0, v0.6.11, v0.6.11.post1, read
    2026-11-21), and 0.2.9 to 0.3.1 do so when the operator is made.
    """
    flashinfer = patient.packages.flashinfer
    if flashinfer is None:
        return False
    try:
        source = patient.host.read(f"{_flashinfer_root(patient)}/jit/core.py", _SOURCE_BYTES)
    except OSError:
        source = b""
    if b"write_ninja" in source:
        return re.search(rb"if not \w+\.is_ninja_generated", source) is None
    return not (0, 4) <= numbers(flashinfer.version) < (0, 6, 11, 1)


def _flashinfer_root(patient: Patient) -> str:
    """Return the folder of the import package."""
    found = patient.packages.find("flashinfer-python")
    return import_root(patient.host, found, "flashinfer") if found else ""


def _operator_folders(patient: Patient, rewrites: bool) -> Iterator[tuple[str, str]]:
    """Yield each folder of operators of the installed version, and by which variable it is there.

    Before 0.4.1 the folder was shared by all versions: nothing in it can be told to be this one's.
    """
    flashinfer = patient.packages.flashinfer
    if flashinfer is None or numbers(flashinfer.version) < (0, 4, 1):
        return
    base, source = patient.place("FLASHINFER_WORKSPACE_BASE", patient.home)
    root = patient.host.realpath(f"{base}/.cache/flashinfer/{flashinfer.version}")
    names = patient.names(root)
    wanted = architectures(patient.environ)
    for name in [wanted] if wanted in names and not rewrites else names:
        folder = f"{root}/{name}/cached_ops"
        if patient.host.kind(folder, follow=False) == "directory":
            yield folder, source


def architectures(environ: Environ) -> str:
    """Return the folder name that FLASHINFER_CUDA_ARCH_LIST stands for: "8.9 9.0a" is 89_90a."""
    try:
        pairs = [arch.split(".") for arch in (environ.get("FLASHINFER_CUDA_ARCH_LIST") or "").split(" ")]
        return "_".join(f"{major}{minor}" for major, minor in sorted({(int(m), n) for m, n in pairs}))
    except ValueError:
        return ""


def _unbuilt(patient: Patient, folder: str, names: list[str]) -> Iterator[ConfiguredOp]:
    """Yield the operators that have a build.ninja and no library, neither here nor prebuilt."""
    host, prebuilt = patient.host, _prebuilt(patient)
    for name in names:
        if host.kind(f"{folder}/{name}/{name}.so"):
            continue
        op = _configured(host, folder, name)
        if op is not None and not any(host.kind(f"{place}/{name}/{name}.so") for place in prebuilt):
            yield op


def _prebuilt(patient: Patient) -> list[str]:
    """Return the folders whose operators FlashInfer takes before its cache."""
    package = patient.packages.find("flashinfer-jit-cache")
    own = [f"{_flashinfer_root(patient)}/data/aot"]
    return [*own, f"{package.location}/flashinfer_jit_cache/jit_cache"] if package else own


def _configured(host: Host, folder: str, name: str) -> ConfiguredOp | None:
    """Return what an operator's build.ninja says; None where there is none of this name.

    A folder that was moved aside holds the file of the operator that it was.
    """
    try:
        text = host.head(f"{folder}/{name}/build.ninja", _HEAD_BYTES).decode("utf-8", "surrogateescape")
    except OSError:
        return None
    found = variables_of(text)
    if found.get("name") != (name,) or not {"cuda_home", "cxx", "nvcc", "ldflags"} <= found.keys():
        return None
    home, cxx, nvcc = (found[key][0] for key in ("cuda_home", "cxx", "nvcc"))
    cflags, cuda_cflags, ldflags = (found.get(key, ()) for key in ("cflags", "cuda_cflags", "ldflags"))
    real = host.realpath(home) if home.startswith("/") else home
    path, real = f"{folder}/{name}", "" if real == home else real
    return ConfiguredOp(path, name, home, cxx, nvcc, cflags, cuda_cflags, ldflags, real)


# --- operators that are built -------------------------------------------------------------------------------

_OPENED = 200  #: operators of one folder; of more it is a sample, spread over all of them
#: The toolkit's libraries whose soname says the CUDA major.
_OF_CUDA = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc)\.so\.(\d+)")
_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")


def _unusable(patient: Patient, folder: str, names: list[str]) -> Iterator[BuiltOp]:
    """Yield the operators that are of another CUDA than torch and cannot be loaded, or built again.

    FlashInfer's name for a folder of operators has no CUDA version in it, and ninja takes a library that is
    not older than its sources for good.
    """
    torch, host = patient.packages.torch, patient.host
    if torch is None or not torch.cuda:
        return
    search = _Search(patient, torch.cuda.partition(".")[0])
    prebuilt, count = _prebuilt(patient), min(len(names), _OPENED)
    for name in (names[index * len(names) // count] for index in range(count)):
        op = _damage(patient, f"{folder}/{name}", name, search)
        if op is not None and not any(host.kind(f"{place}/{name}/{name}.so") for place in prebuilt):
            yield op


def _damage(patient: Patient, path: str, name: str, search: _Search) -> BuiltOp | None:
    """Return what is wrong with a built operator, None where nothing is."""
    host = patient.host
    if host.kind(f"{path}/{name}.so") != "file":
        return None
    op = _configured(host, posixpath.dirname(path), name)
    if op is None:
        return None
    missing = search.missing(f"{path}/{name}.so")
    # An nvcc that is named by its own path may be anywhere.
    gone = op.nvcc == "$cuda_home/bin/nvcc" and not host.kind(f"{op.cuda_home}/bin/nvcc")
    gone = gone and search.misses_a_header(posixpath.dirname(path), name)
    return BuiltOp(path, name, op.cuda_home, missing, gone) if missing or gone else None


class _Search:
    """What the operators of one folder could find when they are loaded or built again, looked for once."""

    def __init__(self, patient: Patient, major: str) -> None:
        self._patient, self._major = patient, major
        self._found: dict[str, bool] = {}
        self._logs: dict[str, bytes] = {}

    def misses_a_header(self, folder: str, name: str) -> bool:
        """Return whether ninja will build an operator again for want of a header that it was made of.

        ninja keeps a list of them beside the operators; where it has none of this operator, that is not sure.
        """
        host = self._patient.host
        if folder not in self._logs:
            try:
                self._logs[folder] = host.read(f"{folder}/.ninja_deps", _LOG_BYTES)
            except OSError:
                self._logs[folder] = b""
        headers = headers_of(self._logs[folder], f"{name}/")
        runtime = next((header for header in headers if header.endswith("/cuda_runtime.h")), "")
        return runtime.startswith("/") and not host.kind(runtime)

    def missing(self, library: str) -> str:
        """Return a CUDA library that this one needs, that torch has not loaded and that is nowhere, or "".

        One of another CUDA major could be found when an operator is loaded wherever it may be.
        """
        from cudadoctor.elf import read

        try:
            object = read(self._patient.host, library)
        except OSError:
            return ""
        own = [entry for path in (object.rpath, object.runpath) if path for entry in path.split(":")]
        folders = [entry.replace("$ORIGIN", posixpath.dirname(library)) for entry in own]
        for name in object.needed:
            match = _OF_CUDA.fullmatch(name)
            if match is None or match[1] == self._major or self._is_anywhere(name, match[1]):
                continue
            if not any(self._patient.host.kind(f"{folder}/{name}") for folder in folders):
                return name
        return ""

    def _is_anywhere(self, name: str, major: str) -> bool:
        if name not in self._found:
            self._found[name] = self._look(name, major)
        return self._found[name]

    def _look(self, name: str, major: str) -> bool:
        patient, target = self._patient, self._patient.target
        # A wheel of that CUDA may be loaded before by something else: what is loaded is found by its name.
        if any(
            other.name == f"nvidia-cuda-runtime-cu{major}"
            or (other.name == "nvidia-cuda-runtime" and other.version.partition(".")[0] == major)
            for other in patient.packages.distributions
        ):
            return True
        folders = [folder or "." for folder in patient.environ.entries("LD_LIBRARY_PATH")]
        folders += [f"{target.prefix}/lib", f"{target.base_prefix}/lib", *_FOLDERS]
        if any(patient.host.kind(f"{folder}/{name}") for folder in folders):
            return True
        return name.encode("utf-8", "surrogateescape") in read_cache(patient.host)


# --- cache folders ------------------------------------------------------------------------------------------


class _Folder(Struct, frozen=True):
    """A folder that may be a cache. `made` says of a name in it whether the cache's owner made it.

    A variable can name any folder: `TRITON_CACHE_DIR=/tmp`. One that holds anything else is no cache.
    """

    name: str
    path: str
    source: str
    made: Callable[[str], bool] | None = None


def _extensions(patient: Patient) -> list[_Folder]:
    """Return the folder in which torch's extension builder works for this Python and this CUDA."""
    torch, version = patient.packages.torch, patient.target.version.split(".")
    root, source = patient.place("TORCH_EXTENSIONS_DIR", f"{patient.cache_home}/torch_extensions")
    if torch is None or torch.hip:
        return []
    if source == _DEFAULT:
        free = "t" if re.search(r"/python3\.\d+t\b", patient.target.include) else ""
        built_for = f"cu{torch.cuda.replace('.', '')}" if torch.cuda else "cpu"
        root += f"/py{''.join(version[:2])}{free}_{built_for}"
    folder = patient.host.realpath(root)

    def made(name: str) -> bool:
        return any(patient.host.kind(f"{folder}/{name}/{file}") == "file" for file in ("build.ninja", "lock"))

    return [_Folder("torch-extensions", folder, source, None if source == _DEFAULT else made)]


def _other_folders(patient: Patient) -> Iterator[_Folder]:
    packages, home, find = patient.packages, patient.home, patient.packages.find
    if packages.triton is not None:
        base, source = patient.place("TRITON_HOME", home)
        base, named = patient.place("TRITON_CACHE_DIR", f"{base}/.triton/cache")
        made = re.compile(r"[A-Z2-7]{52}|[0-9a-f]{64}").fullmatch
        yield _named("triton", base, source if named == _DEFAULT else named, named != _DEFAULT, made)
    if find("vllm") is not None:
        base, source = patient.place("VLLM_CACHE_ROOT", f"{patient.cache_home}/vllm")
        for folder in ("torch_compile_cache", "torch_aot_compile"):
            yield _Folder("vllm-compile", f"{base}/{folder}", source)
    if packages.torch is not None and (user := user_name(patient.host)):
        temporary = patient.environ.get("TMPDIR") or "/tmp"
        base, source = patient.place("TORCHINDUCTOR_CACHE_DIR", f"{temporary}/torchinductor_{user}")
        made = re.compile(r"[a-z2-7]{2}|triton|fxgraph|aotautograd|locks|cache").fullmatch
        yield _named("torchinductor", base, source, source != _DEFAULT, made)
    if find("apache-tvm-ffi") is not None:
        base, source = patient.place("TVM_FFI_CACHE_DIR", f"{home}/.cache/tvm-ffi")
        made = re.compile(r"libtorch_c_dlpack_addon\S+|\w+_[0-9a-f]{16,64}(\.lock)?").fullmatch
        yield _named("tvm-ffi", base, source, source != _DEFAULT, made)


def _named(name: str, path: str, source: str, direct: bool, made: Callable[[str], object]) -> _Folder:
    """Return a cache folder; one that a variable names directly must hold nothing but the cache's own."""
    return _Folder(name, path, source, (lambda entry: made(entry) is not None) if direct else None)


def user_name(host: Host) -> str:
    """Return the user's name as Python's `getpass.getuser` takes it, in the form torch puts into a path."""
    names = (host.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME"))
    return re.sub(r'[\\/:*?"<>|]', "_", next(filter(None, names), ""))


def _own(host: Host, folders: list[_Folder]) -> Iterator[CacheFolder]:
    """Yield those that are there, belong to this user and are no links to somewhere else."""
    user = ""
    for folder in folders:
        parent, name = posixpath.split(folder.path.rstrip("/"))
        path = f"{host.realpath(parent).rstrip('/')}/{name}"
        if not name or host.kind(path, follow=False) != "directory":
            continue
        user = user or _status(host, "self").user
        if _owner(host, path) == user and (folder.made is None or _holds_only(host, path, folder.made)):
            yield CacheFolder(folder.name, path, folder.source)


def _holds_only(host: Host, folder: str, made: Callable[[str], bool]) -> bool:
    try:
        names = [name for name in host.list(folder) if not name.startswith(".")]
    except OSError:
        return False
    return 0 < len(names) <= _ENTRIES and all(map(made, names))


# --- locks --------------------------------------------------------------------------------------------------


def _batons(patient: Patient, folder: str) -> list[str]:
    """Return the lock files of torch's extension builder, where their mere being there locks.

    torch 2.13 and before (FileBaton); 2.14.1 takes an advisory lock (torch/utils/cpp_extension.py of 2.9.0
    and 2.14.1, read 2026-11-21).
    """
    torch, host = patient.packages.torch, patient.host
    paths = [f"{folder}/{name}/lock" for name in patient.names(folder)]
    found = [path for path in paths if host.kind(path, follow=False) == "file"]
    if torch is None or not found:
        return []
    try:
        source = host.read(f"{torch.root}/utils/cpp_extension.py", _SOURCE_BYTES)
    except OSError:
        source = b""
    baton = b"FileBaton(" in source if source else numbers(torch.version) < (2, 14)
    return found if baton else []


#: File systems that no other machine uses.
_LOCAL = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "tmpfs", "xfs", "zfs")
)
#: The inode of the first PID namespace (PROC_PID_INIT_INO of Linux): who is in it sees every process.
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
#: Programs that the kernel shields from the others of their own user. None of them runs a build.
_SHIELDED = frozenset((
    "(sd-pam)", "dbus-daemon", "fusermount", "fusermount3", "gnome-keyring-d", "gpg-agent", "ssh-agent",
    "sshd", "sshd-session", "su", "sudo", "systemd",
))  # fmt: skip


class _Status(Struct, frozen=True):
    """One process as /proc tells of it to everybody."""

    number: str
    name: str = ""
    user: str = ""  #: its effective user id
    users: tuple[str, ...] = ()  #: real, effective, saved and of files


class _Processes(Struct, frozen=True):
    """The locks that live processes have open, and the processes that may not be looked into."""

    opened: frozenset[str]  #: paths that end in /lock
    closed: tuple[_Status, ...]
    me: str


def _judged(host: Host, batons: list[str]) -> Iterator[Lock]:
    """Yield each baton with whether it is held: its holder keeps the file open, and lets go by removing it.

    Processes are looked at once, and only where there is a baton.
    """
    processes = _processes(host) if batons else None
    for baton in batons:
        path = host.realpath(baton)
        if processes is not None and path in processes.opened:
            yield Lock(baton, "baton", True)
        else:
            doubt = "/proc could not be read" if processes is None else _doubt(host, path, processes)
            yield Lock(baton, "baton", None if doubt else False, doubt)


def _processes(host: Host) -> _Processes | None:
    try:
        numbers = [name for name in host.list("/proc") if name.isdigit()]
    except OSError:
        return None
    opened, closed = set(), []
    for number in numbers:
        try:
            descriptors = host.list(f"/proc/{number}/fd")
        except PermissionError:
            closed.append(_status(host, number))
            continue
        except OSError:
            continue  # it has ended
        for descriptor in descriptors:
            try:
                path = host.readlink(f"/proc/{number}/fd/{descriptor}")
            except OSError:
                continue
            if path.endswith("/lock"):
                opened.add(path)
    return _Processes(frozenset(opened), tuple(closed), _status(host, "self").user)


def _status(host: Host, number: str) -> _Status:
    try:
        text = host.read(f"/proc/{number}/status", 1 << 16).decode("utf-8", "replace")
    except OSError:
        return _Status(number)
    users = re.search(r"^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", text, re.MULTILINE)
    name = re.search(r"^Name:\s+(.*)$", text, re.MULTILINE)
    return _Status(
        number, name[1] if name else "", users[2] if users else "", users.groups() if users else ()
    )


def _owner(host: Host, path: str) -> str:
    try:
        return str(host.owner(path))
    except OSError:
        return ""


def _doubt(host: Host, path: str, processes: _Processes) -> str:
    """Return why a process that is not seen may hold the lock, or "" where none can.

    Whoever holds it made the file, so it belongs to the holder's user.
    """
    tail = "/".join(path.split("/")[-2:])
    if any(other.endswith(f"/{tail}") for other in processes.opened):
        return f"a process has a {tail} open by another path"
    if why := _out_of_sight(host, path):
        return why
    owner = _owner(host, path)
    if not owner or processes.me not in ("0", owner):
        return "it belongs to another user, whose processes cannot be looked into"
    for process in processes.closed:
        if owner in process.users and process.name not in _SHIELDED:
            return f"process {process.number} ({process.name}) cannot be looked into"
    return ""


def _out_of_sight(host: Host, path: str) -> str:
    """Return why processes that this /proc does not show may use the file, or "" where none can."""
    place, kind = _mount(host, path)
    if kind not in _LOCAL:
        return f"it is on a file system ({kind or 'unknown'}) that other machines may use"
    try:
        namespace = host.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    # A container's own overlay is nobody else's; what is mounted into it may be.
    if namespace != _FIRST_PID_NAMESPACE and (place, kind) != ("/", "overlay"):
        return "processes outside this container may use it"
    return ""


def _mount(host: Host, path: str) -> tuple[str, str]:
    """Return the mount point that a path is under, and the type of its file system."""
    try:
        text = host.read("/proc/self/mountinfo", _SOURCE_BYTES).decode("utf-8", "surrogateescape")
    except OSError:
        return "", ""
    best = ("", "")
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        if f"{path}/".startswith(f"{place.rstrip('/')}/") and len(place) >= len(best[0]):
            best = (place, kinds[0])
    return best
