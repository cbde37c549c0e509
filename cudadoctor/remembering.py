"""A machine whose answers are remembered: a prediction asks the same questions as the first look."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

from cudadoctor.host import READ_LIMIT_BYTES, FileId, Host, Memory, Ran, Rights, Space, Stack
from cudadoctor.overlay import again

T = TypeVar("T")

#: Variables that tell build systems and Python packages something, and that no GCC driver, GNU linker or
#: `nvcc --version` reads: between two predictions these differ, and the answers do not. (GCC's documentation,
#: "Environment Variables Affecting GCC", names what it does read: PATH, LIBRARY_PATH, TMPDIR, CPATH,
#: COMPILER_PATH, GCC_EXEC_PREFIX, the locale ...; ld adds LD_RUN_PATH and LDEMULATION; the loader that starts
#: them reads LD_LIBRARY_PATH.) Every variable that is not named here counts.
_UNREAD = frozenset((
    "CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDAToolkit_ROOT", "CUDACXX", "CUDAHOSTCXX", "MAX_JOBS",
    "TORCH_CUDA_ARCH_LIST", "TORCH_EXTENSIONS_DIR",
))  # fmt: skip
_UNREAD_PREFIXES = ("FLASHINFER_", "TRITON_", "TVM_FFI_")
#: Programs that are known to read none of those. clang and nvc++ look for CUDA by themselves, and ccache or a
#: wrapper script may read anything: with them every variable counts.
_DEAF = re.compile(r"(?:.*-)?(?:gcc|g\+\+|c\+\+|ld(?:\.bfd|\.gold)?)(?:-[\d.]+)?$")
#: Larger contents are read again: what a prediction saves is many small calls, not bytes.
_KEPT_BYTES = 1 << 16


def _read(environ: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Return the variables that such a program may read."""
    return frozenset(
        (name, value)
        for name, value in environ.items()
        if name not in _UNREAD and not name.startswith(_UNREAD_PREFIXES)
    )


class Remembering:
    """A machine whose files and programs are each asked once: for looks at it that follow each other.

    What changes meanwhile is not seen, so a new one is made for each look that has to be a fresh one.
    Programs that are given a folder to work in, and what lies in temporary folders, are asked each time.
    """

    def __init__(self, base: Host) -> None:
        self.environ: Mapping[str, str] = base.environ
        self._base = base
        self._answers: dict[tuple[object, ...], object] = {}
        self._open: tuple[str, ...] = ()  # temporary folders

    def _ask(self, call: Callable[..., T], path: str, *more: object) -> T:
        """Return the remembered answer, or ask; errors are answers. Two threads at once may both ask."""
        key = (call, path, *more)
        known = self._answers.get(key, self)  # None could be an answer, this machine cannot
        if known is self:
            try:
                known = call(path, *more)
            except OSError as error:
                known = again(error)
            large = isinstance(known, bytes) and len(known) > _KEPT_BYTES
            if not large and not path.startswith(self._open):
                self._answers[key] = known
        if isinstance(known, OSError):
            raise again(known)
        return cast(T, known)

    def read(self, path: str, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
        """See `Host.read`."""
        return self._ask(self._base.read, path, limit_bytes)

    def head(self, path: str, count_bytes: int) -> bytes:
        """See `Host.head`."""
        return self._ask(self._base.head, path, count_bytes)

    def read_at(self, path: str, offset: int, count_bytes: int) -> bytes:
        """See `Host.read_at`."""
        return self._ask(self._base.read_at, path, offset, count_bytes)

    def size(self, path: str) -> int:
        """See `Host.size`."""
        return self._ask(self._base.size, path)

    def identity(self, path: str) -> FileId:
        """See `Host.identity`."""
        return self._ask(self._base.identity, path)

    def list(self, path: str) -> list[str]:
        """See `Host.list`."""
        return [*self._ask(self._base.list, path)]

    def kind(self, path: str, follow: bool = True) -> str:
        """See `Host.kind`."""
        return self._ask(self._base.kind, path, follow)

    def readlink(self, path: str) -> str:
        """See `Host.readlink`."""
        return self._ask(self._base.readlink, path)

    def realpath(self, path: str) -> str:
        """See `Host.realpath`."""
        return self._ask(self._base.realpath, path)

    def owner(self, path: str) -> int:
        """See `Host.owner`."""
        return self._ask(self._base.owner, path)

    def rights(self, path: str) -> Rights:
        """See `Host.rights`."""
        return self._ask(self._base.rights, path)

    def locked(self, path: str) -> bool:
        """See `Host.locked`: a lock that is given up meanwhile shall not look like what a plan clears."""
        return self._ask(self._base.locked, path)

    def executable(self, path: str) -> bool:
        """See `Host.executable`."""
        return self._ask(self._base.executable, path)

    def usable(self, path: str) -> bool:
        """See `Host.usable`."""
        return self._ask(self._base.usable, path)

    def writable(self, path: str) -> bool:
        """See `Host.writable`."""
        return self._ask(self._base.writable, path)

    def space(self, path: str) -> Space:
        """See `Host.space`: what fills up meanwhile shall not look like what a plan changes."""
        return self._ask(self._base.space, path)

    def lock_refused(self, path: str) -> str:
        """See `Host.lock_refused`."""
        return self._ask(self._base.lock_refused, path)

    def run(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        cwd: str | None = None,
        timeout_s: float = 10,
    ) -> Ran:
        """See `Host.run`. What did not end in time is asked again."""
        if cwd is not None:  # it is started for what it leaves there
            return self._base.run(argv, environ, cwd=cwd, timeout_s=timeout_s)
        key = ("run", *argv, self._read_by(argv, environ))
        known = self._answers.get(key)
        if isinstance(known, Ran):
            return known
        ran = self._base.run(argv, environ, timeout_s=timeout_s)
        if not ran.timed_out:
            self._answers[key] = ran
        return ran

    def nvml(self, environ: Mapping[str, str], *, timeout_s: float = 5) -> Ran:
        """See `Host.nvml`. What did not end in time is not asked again: it would not end this time either."""
        key = ("nvml", _read(environ))
        known = self._answers.get(key)
        if not isinstance(known, Ran):
            known = self._answers[key] = self._base.nvml(environ, timeout_s=timeout_s)
        return known

    def _read_by(self, argv: Sequence[str], environ: Mapping[str, str]) -> frozenset[tuple[str, str]]:
        """Return the variables that this program's answer may depend on."""
        return _read(environ) if self._is_deaf(argv) else frozenset(environ.items())

    def _is_deaf(self, argv: Sequence[str]) -> bool:
        if not argv or not argv[0].startswith("/"):
            return False
        name = posixpath.basename(self.realpath(argv[0]))
        if _DEAF.match(name) is None and (name, *argv[1:]) != ("nvcc", "--version"):
            return False
        try:
            return self.head(argv[0], 4) == b"\x7fELF"
        except OSError:
            return False

    @contextmanager
    def temporary(self, files: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
        """See `Host.temporary`."""
        with self._base.temporary(files, environ) as folder:
            self._open = (*self._open, folder)
            try:
                yield folder
            finally:
                self._open = tuple(other for other in self._open if other != folder)

    def cwd(self) -> str:
        """See `Host.cwd`."""
        return self._base.cwd()

    def home(self) -> str:
        """See `Host.home`."""
        return self._base.home()

    def own_prefix(self) -> str:
        """See `Host.own_prefix`."""
        return self._base.own_prefix()

    def stack(self) -> Stack:
        """See `Host.stack`."""
        return self._base.stack()

    def memory(self) -> Memory:
        """See `Host.memory`."""
        return self._base.memory()

    def cores(self) -> int:
        """See `Host.cores`."""
        return self._base.cores()

    def uname(self) -> tuple[str, str, str]:
        """See `Host.uname`."""
        return self._base.uname()

    def release(self) -> str:
        """See `Host.release`."""
        return self._base.release()
