"""The only door to the machine: files, variables, programs, limits.

Probes ask a `Host` and nothing else, so that a test can hand them a machine of its own making
(`testing.FakeHost`) and a prediction can hand them this machine with changes staged on top.
"""

from __future__ import annotations

import errno
import os
import stat as _stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class NotRegular(OSError):
    """What stands at the path is no regular file: a folder, a FIFO, a socket or a device."""


class TooLarge(OSError):
    """The file is larger than anything this program has a reason to read."""


class Ran(NamedTuple):
    """How a command ended. `status` is negative for a signal, as in `subprocess`."""

    status: int
    stdout: str
    stderr: str
    timed_out: bool = False
    problem: str = ""  #: why it could not be started


class Stack(NamedTuple):
    """Stack limits of this process in KiB; None: unlimited."""

    soft_kib: int | None
    hard_kib: int | None


class Memory(NamedTuple):
    """Memory of the system in bytes, before any container's limit."""

    total_bytes: int
    available_bytes: int


class Host(Protocol):
    """What a probe may ask of a machine. Paths are strings as the machine spells them."""

    environ: Mapping[str, str]

    def cwd(self) -> str:
        """Return the current directory, or "" where it is gone."""

    def home(self) -> str:
        """Return the user's home folder."""

    def own_prefix(self) -> str:
        """Return the environment that this program itself lives in."""

    def read(self, path: str, limit_bytes: int = ...) -> bytes:
        """Return a regular file's content; raise OSError, NotRegular or TooLarge. Never blocks."""

    def head(self, path: str, count_bytes: int) -> bytes:
        """Return at most the first `count_bytes` of a regular file; raises like `read`."""

    def size(self, path: str) -> int:
        """Return a file's size in bytes; raise OSError."""

    def list(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; raise OSError."""

    def kind(self, path: str, follow: bool = True) -> str:
        """Return file, directory, link, special, or "" where nothing is (or may be seen)."""

    def readlink(self, path: str) -> str:
        """Return the text of a symbolic link; raise OSError."""

    def realpath(self, path: str) -> str:
        """Return the path with every link resolved, as far as that goes."""

    def executable(self, path: str) -> bool:
        """Return whether this user may run the file at `path`."""

    def run(
        self, argv: Sequence[str], environ: Mapping[str, str], *, cwd: str | None = None, timeout_s: float = 10
    ) -> Ran:
        """Run a program with no input and return how it ended. Never raises, never outlives its time."""

    def stack(self) -> Stack:
        """Return the stack limits."""

    def memory(self) -> Memory:
        """Return what memory the system has."""

    def cores(self) -> int:
        """Return how many cores this process may use."""

    def uname(self) -> tuple[str, str, str]:
        """Return system, kernel release and machine: ("Linux", "6.1.0", "x86_64")."""

    def release(self) -> str:
        """Return the operating system's name and version, or ""."""


READ_LIMIT_BYTES = 4 << 20
OUTPUT_LIMIT_BYTES = 4 << 20


class RealHost:
    """This machine."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.environ: Mapping[str, str] = os.environ if environ is None else environ

    def cwd(self) -> str:
        """See `Host.cwd`."""
        try:
            return os.getcwd()
        except OSError:
            return ""

    def home(self) -> str:
        """See `Host.home`."""
        return os.path.expanduser("~")

    def own_prefix(self) -> str:
        """See `Host.own_prefix`."""
        import sys

        return sys.prefix

    def read(self, path: str, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
        """See `Host.read`."""
        data = self.head(path, limit_bytes + 1)
        if len(data) > limit_bytes:
            raise TooLarge(errno.EFBIG, f"larger than {limit_bytes >> 20} MiB", path)
        return data

    def head(self, path: str, count_bytes: int) -> bytes:
        """See `Host.head`."""
        # Opening a FIFO would wait for a writer and opening a device may act on it: look first, and
        # look again at what was opened, for it may have been swapped in between.
        if not _stat.S_ISREG(os.stat(path).st_mode):
            raise NotRegular(errno.EINVAL, "not a regular file", path)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if not _stat.S_ISREG(os.fstat(fd).st_mode):
                raise NotRegular(errno.EINVAL, "not a regular file", path)
            chunks, missing = [], count_bytes
            while missing > 0 and (chunk := os.read(fd, missing)):
                chunks.append(chunk)
                missing -= len(chunk)
            return b"".join(chunks)
        finally:
            os.close(fd)

    def size(self, path: str) -> int:
        """See `Host.size`."""
        return os.stat(path).st_size

    def list(self, path: str) -> list[str]:
        """See `Host.list`."""
        return sorted(os.listdir(path))

    def kind(self, path: str, follow: bool = True) -> str:
        """See `Host.kind`."""
        try:
            mode = (os.stat if follow else os.lstat)(path).st_mode
        except (OSError, ValueError):
            return ""
        if _stat.S_ISREG(mode):
            return "file"
        if _stat.S_ISDIR(mode):
            return "directory"
        return "link" if _stat.S_ISLNK(mode) else "special"

    def readlink(self, path: str) -> str:
        """See `Host.readlink`."""
        return os.readlink(path)

    def realpath(self, path: str) -> str:
        """See `Host.realpath`."""
        try:
            return os.path.realpath(path)
        except (OSError, ValueError):
            return path

    def executable(self, path: str) -> bool:
        """See `Host.executable`."""
        return os.access(path, os.X_OK) and self.kind(path) == "file"

    def run(
        self, argv: Sequence[str], environ: Mapping[str, str], *, cwd: str | None = None, timeout_s: float = 10
    ) -> Ran:
        """See `Host.run`."""
        return _run(argv, environ, cwd, timeout_s)

    def stack(self) -> Stack:
        """See `Host.stack`."""
        import resource

        soft, hard = (
            None if limit == resource.RLIM_INFINITY else limit >> 10
            for limit in resource.getrlimit(resource.RLIMIT_STACK)
        )
        return Stack(soft, hard)

    def memory(self) -> Memory:
        """See `Host.memory`."""
        import psutil

        memory = psutil.virtual_memory()
        return Memory(memory.total, memory.available)

    def cores(self) -> int:
        """See `Host.cores`."""
        return len(os.sched_getaffinity(0))

    def uname(self) -> tuple[str, str, str]:
        """See `Host.uname`."""
        name = os.uname()
        return name.sysname, name.release, name.machine

    def release(self) -> str:
        """See `Host.release`."""
        import distro

        return distro.name(pretty=True)


def _run(argv: Sequence[str], environ: Mapping[str, str], cwd: str | None, timeout_s: float) -> Ran:
    import subprocess

    try:
        process = subprocess.Popen(
            argv,
            env=environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Ran(127, "", "", problem=getattr(error, "strerror", None) or str(error))
    with process:
        return _gather(process, timeout_s)


def _gather(process: object, timeout_s: float) -> Ran:
    """Read both streams until they close, the time is over or a flood makes reading on pointless."""
    import selectors
    import subprocess
    import time

    assert isinstance(process, subprocess.Popen)
    assert process.stdout is not None and process.stderr is not None
    deadline = time.monotonic() + timeout_s
    taken: dict[int, bytearray] = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    stdout, stderr = taken.values()
    timed_out = flooded = False
    with selectors.DefaultSelector() as selector:
        for fd in taken:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map() and not timed_out and not flooded:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            timed_out = not ready
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                taken[key.fd] += chunk
                flooded = flooded or len(taken[key.fd]) > OUTPUT_LIMIT_BYTES
                if not chunk:
                    selector.unregister(key.fd)
    if not timed_out and not flooded:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            timed_out = True
    if timed_out or flooded:
        _kill(process.pid)
    status = process.wait()
    problem = f"printed more than {OUTPUT_LIMIT_BYTES >> 20} MiB" if flooded else ""
    return Ran(status, _text(stdout), _text(stderr), timed_out, problem)


def _kill(pid: int) -> None:
    """Kill the child's process group, which it leads because it was started in a session of its own."""
    import signal

    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "surrogateescape")


def which(host: Host, command: str, path: Sequence[str]) -> str:
    """Return the file that a shell would run for `command` with this PATH, or "".

    A command with a slash in it is looked for as it is.
    """
    if "/" in command:
        return command if host.executable(command) else ""
    for folder in path:
        candidate = f"{folder}/{command}" if folder else command
        if host.executable(candidate):
            return candidate
    return ""
