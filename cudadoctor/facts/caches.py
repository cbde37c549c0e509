"""What builds, downloads and repairs left behind, and the places they are in."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cudadoctor.facts.section import Section


class ConfiguredOp(Struct, frozen=True, omit_defaults=True):
    """One operator of FlashInfer that is set up to be built, and by what its build.ninja builds it.

    Lists hold one flag an entry, as FlashInfer writes them: `$cuda_home` stays a variable.
    """

    path: str  #: its folder
    name: str
    cuda_home: str
    cxx: str
    nvcc: str
    cflags: tuple[str, ...] = ()
    cuda_cflags: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()
    cuda_home_real: str = ""  #: cuda_home with links resolved, where that differs


class BuiltOp(Struct, frozen=True, omit_defaults=True):
    """One operator of FlashInfer that is built, and that cannot be used as it is."""

    path: str  #: its folder
    name: str
    cuda_home: str  #: the toolkit that it was built with, as its build.ninja says
    missing: str = ""  #: a library that it needs and that is not found: libcudart.so.12
    gone: bool = False  #: there is no nvcc in `cuda_home` any more, with which it would be built again


class CacheFolder(Struct, frozen=True):
    """One folder that holds nothing but what compilers of the stack made and would make again."""

    name: str  #: flashinfer, torch-extensions, triton, vllm-compile, torchinductor, tvm-ffi
    path: str  #: links in front of its own name resolved
    source: str  #: the variable that says where, or "the default"


class Lock(Struct, frozen=True, omit_defaults=True):
    """One lock file of a build.

    A baton holds as long as its file exists, whoever made it. An advisory lock ends with its process, and a
    file that is left over holds nothing.
    """

    path: str
    kind: str  #: baton, advisory
    held: bool | None = None  #: whether a live process holds it; None: that cannot be told
    doubt: str = ""  #: why it cannot be told


class Caches(Section, frozen=True):
    """What just-in-time builds left behind."""

    ops: tuple[ConfiguredOp, ...] = ()  #: FlashInfer's, configured but not built; none where it `rewrites`
    rewrites: bool = False  #: FlashInfer writes build.ninja anew before each build
    folders: tuple[CacheFolder, ...] = ()  #: those that exist and are this user's own
    locks: tuple[Lock, ...] = ()
    built: tuple[BuiltOp, ...] = ()  #: FlashInfer's that are built and cannot be used as they are

    def builds_in(self, folder: str) -> tuple[Lock, ...]:
        """Return the locks below `folder` that a live process holds."""
        inside = f"{folder.rstrip('/')}/"
        return tuple(lock for lock in self.locks if lock.held and lock.path.startswith(inside))


class StoragePlace(Struct, frozen=True, omit_defaults=True):
    """One folder that the installed stack writes to, and what its file system gives."""

    name: str  #: flashinfer, torch-extensions, triton, vllm, torchinductor, tvm-ffi, hf-hub, temporary
    path: str
    variable: str  #: the variable that moves it
    source: str  #: the variable that says where it is now, or "the default"
    nearest: str  #: as much of the path as is there
    blocked: str = ""  #: what cannot be written: the nearest part, or a file or folder in it
    why: Literal["", "refused", "read-only", "file", "dangling", "missing"] = ""
    owner: int = -1  #: the user id that `blocked` belongs to
    device: int = 0  #: tells one file system from another
    free_bytes: int | None = None  #: None: not known
    free_files: int | None = None  #: None: as many as there is space for, or not known
    no_exec: bool = False  #: no library in it can be loaded
    unlocked: str = ""  #: why its file system gives no locks: ENOLCK, ENOSYS, EOPNOTSUPP


class FolderSize(Struct, frozen=True, omit_defaults=True):
    """What the files of a folder hold together."""

    name: str  #: as `CacheFolder` calls it
    path: str
    device: int
    size_bytes: int
    complete: bool = True  #: False: at least so much, for the look was cut off


class Storage(Section, frozen=True):
    """Where the installed stack writes to; sizes are measured only where a file system is nearly full."""

    places: tuple[StoragePlace, ...]
    user: int = -1  #: this user's id, where something is blocked
    spares: tuple[StoragePlace, ...] = ()  #: folders of this user's own that a cache could be moved to
    sizes: tuple[FolderSize, ...] = ()  #: of caches that would be made again
    soft_locks: bool = False  #: the installed filelock does without where flock is not implemented


class Download(Struct, frozen=True, omit_defaults=True):
    """One file of a model that is there in part."""

    path: str
    size_bytes: int
    running: bool = False  #: a live process holds the lock of this download


class CachedModel(Struct, frozen=True, omit_defaults=True):
    """One model of the Hugging Face cache that is not whole."""

    name: str  #: Qwen/Qwen2.5-7B-Instruct
    path: str
    incomplete: tuple[Download, ...] = ()
    broken: tuple[str, ...] = ()  #: links of snapshots whose blob is not there


class Hub(Section, frozen=True):
    """The Hugging Face cache: only what is not whole in it."""

    path: str = ""  #: "" where no huggingface-hub is installed
    source: str = ""  #: the variable that says where, or "the default"
    count: int = 0  #: models, datasets and spaces in it
    offline: str = ""  #: the variable that forbids downloads
    models: tuple[CachedModel, ...] = ()
    complete: bool = True  #: False: there is more than was looked at


class OpenRun(Struct, frozen=True):
    """One run of repairs that was left half done."""

    name: str  #: 2026-11-21-1
    status: str  #: interrupted, undo interrupted
    journal: str
    busy: bool  #: a live process is at it


class Repairs(Section, frozen=True):
    """What repairs of this program have left in the environment."""

    runs: int = 0
    open: tuple[OpenRun, ...] = ()
    problem: str = ""  #: why a journal could not be read
    pending: tuple[str, ...] = ()  #: variables that activation now sets otherwise than the current ones are
    source: str = ""  #: the activation file that sets them
