"""The only door to the machine: files, variables, programs, limits.

Probes ask a `Host` and nothing else, so that a test can hand them a machine of its own making
(`testing.FakeHost`).
"""

from __future__ import annotations

import errno
import os
import re
import stat as _stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import subprocess


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


class FileId(NamedTuple):
    """Which regular file a path leads to: two paths lead to one file exactly where device and inode agree."""

    device: int
    inode: int
    size_bytes: int


class Space(NamedTuple):
    """What a file system leaves this user; None where it states none: in memory, or over a network."""

    device: int  #: tells one file system from another
    free_bytes: int | None
    free_files: int | None = None
    read_only: bool = False
    no_exec: bool = False  #: mounted so that no program or library in it can be loaded


class Rights(NamedTuple):
    """Whose a file or folder is, and what its permission bits are: 0o755."""

    user: int
    group: int
    mode: int


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
        """Return a regular file's content; raise OSError, NotRegular or TooLarge. Never blocks.

        A text that can be no path, as with a NUL byte in it, is an OSError here and below.
        """

    def head(self, path: str, count_bytes: int) -> bytes:
        """Return at most the first `count_bytes` of a regular file; raises like `read`."""

    def read_at(self, path: str, offset: int, count_bytes: int) -> bytes:
        """Return at most `count_bytes` from `offset` on, none past the end; raises like `read`."""

    def size(self, path: str) -> int:
        """Return a regular file's size in bytes; raise OSError or NotRegular."""

    def identity(self, path: str) -> FileId:
        """Return which regular file the path leads to; raise OSError or NotRegular."""

    def list(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; raise OSError, NotADirectoryError among them."""

    def kind(self, path: str, follow: bool = True) -> str:
        """Return file, directory, link, special, or "" where nothing is (or may be seen)."""

    def readlink(self, path: str) -> str:
        """Return the text of a symbolic link; raise OSError."""

    def realpath(self, path: str) -> str:
        """Return the path with every link resolved, as far as that goes."""

    def owner(self, path: str) -> int:
        """Return the user id that owns what stands at `path`, a link itself included; raise OSError."""

    def rights(self, path: str) -> Rights:
        """Return whose the file or folder that `path` leads to is, and its permission bits; raise OSError."""

    def locked(self, path: str) -> bool:
        """Return whether a live process holds a lock (flock) on the file at `path`."""

    def executable(self, path: str) -> bool:
        """Return whether this user may run the file at `path`."""

    def usable(self, path: str) -> bool:
        """Return whether this user may read and write what stands at `path`, a device too; opens nothing."""

    def writable(self, path: str) -> bool:
        """Return whether this user may write the file at `path`, or put files into the folder there."""

    def space(self, path: str) -> Space:
        """Return what the file system that `path` is on leaves this user; raise OSError."""

    def lock_refused(self, path: str) -> str:
        """Return why the file system of a file or folder gives no lock (flock): ENOLCK, ENOSYS, EOPNOTSUPP.

        "" where it would, one that another process holds included. Raises OSError where it cannot be opened.
        """

    def run(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        cwd: str | None = None,
        timeout_s: float = 10,
    ) -> Ran:
        """Run a program with no input and return how it ended. Never raises, never outlives its time."""

    def nvml(self, environ: Mapping[str, str], *, timeout_s: float = 5) -> Ran:
        """Ask the driver's management library in a process of its own: `nvml.py` says what it prints."""

    def temporary(self, files: Mapping[str, str], environ: Mapping[str, str]) -> AbstractContextManager[str]:
        """Return a new folder with these texts in it, where `environ` says; it is gone at the end.

        Raises OSError where there is no place for it.
        """

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
#: What flock says on a file system that has no locks, or whose lock server does not answer.
_REFUSED = {errno.ENOLCK: "ENOLCK", errno.ENOSYS: "ENOSYS", errno.EOPNOTSUPP: "EOPNOTSUPP"}
_CHUNK_BYTES = 1 << 16
_FARTHEST = 1 << 62  #: farther than any file goes: a damaged one may name an offset that is no number to C
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
        return self.environ.get("HOME") or os.path.expanduser("~")

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
        return self.read_at(path, 0, count_bytes)

    def read_at(self, path: str, offset: int, count_bytes: int) -> bytes:
        """See `Host.read_at`."""
        # Opening a FIFO would wait for a writer and opening a device may act on it: look first, and
        # look again at what was opened, for it may have been swapped in between.
        _regular(path)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if not _stat.S_ISREG(found.st_mode):
                raise NotRegular(errno.EINVAL, "not a regular file", path)
            chunks, done = [], 0
            at = min(offset, _FARTHEST)
            while done < count_bytes and (
                chunk := os.pread(fd, min(count_bytes - done, _CHUNK_BYTES), at + done)
            ):
                chunks.append(chunk)
                done += len(chunk)
                if at + done == found.st_size:  # what /proc makes up has no size
                    break
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            os.close(fd)

    def size(self, path: str) -> int:
        """See `Host.size`."""
        return self.identity(path).size_bytes

    def identity(self, path: str) -> FileId:
        """See `Host.identity`."""
        found = _regular(path)
        return FileId(found.st_dev, found.st_ino, found.st_size)

    def list(self, path: str) -> list[str]:
        """See `Host.list`."""
        try:
            return sorted(os.listdir(path))
        except ValueError as error:
            raise _no_path(path, error) from None

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
        try:
            return os.readlink(path)
        except ValueError as error:
            raise _no_path(path, error) from None

    def realpath(self, path: str) -> str:
        """See `Host.realpath`."""
        try:
            return os.path.realpath(path)
        except (OSError, ValueError):
            return path

    def owner(self, path: str) -> int:
        """See `Host.owner`."""
        try:
            return os.lstat(path).st_uid
        except ValueError as error:
            raise _no_path(path, error) from None

    def rights(self, path: str) -> Rights:
        """See `Host.rights`."""
        try:
            found = os.stat(path)
        except ValueError as error:
            raise _no_path(path, error) from None
        return Rights(found.st_uid, found.st_gid, _stat.S_IMODE(found.st_mode))

    def locked(self, path: str) -> bool:
        """See `Host.locked`."""
        import fcntl

        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except (OSError, ValueError):
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(fd)
        return False

    def executable(self, path: str) -> bool:
        """See `Host.executable`."""
        return self.kind(path) == "file" and os.access(path, os.X_OK)

    def usable(self, path: str) -> bool:
        """See `Host.usable`."""
        try:
            return os.access(path, os.R_OK | os.W_OK)
        except ValueError:
            return False

    def writable(self, path: str) -> bool:
        """See `Host.writable`."""
        mode = os.W_OK | os.X_OK if self.kind(path) == "directory" else os.W_OK
        try:
            return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
        except ValueError:
            return False

    def space(self, path: str) -> Space:
        """See `Host.space`."""
        try:
            device, found = os.stat(path).st_dev, os.statvfs(path)
        except ValueError as error:
            raise _no_path(path, error) from None
        # A part is kept back for the superuser.
        blocks, files = (found.f_bavail, found.f_favail) if os.geteuid() else (found.f_bfree, found.f_ffree)
        return Space(
            device,
            blocks * found.f_frsize if found.f_blocks else None,
            files if found.f_files else None,
            bool(found.f_flag & os.ST_RDONLY),
            bool(found.f_flag & getattr(os, "ST_NOEXEC", 0)),
        )

    def lock_refused(self, path: str) -> str:
        """See `Host.lock_refused`."""
        import fcntl

        try:
            mode = os.stat(path).st_mode
        except ValueError as error:
            raise _no_path(path, error) from None
        if not _stat.S_ISREG(mode) and not _stat.S_ISDIR(mode):  # opening anything else may block or act
            raise NotRegular(errno.EINVAL, "not a regular file", path)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return _REFUSED.get(error.errno or 0, "")
        finally:
            os.close(fd)
        return ""

    def run(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        cwd: str | None = None,
        timeout_s: float = 10,
    ) -> Ran:
        """See `Host.run`."""
        return _run(argv, environ, cwd, timeout_s)

    def nvml(self, environ: Mapping[str, str], *, timeout_s: float = 5) -> Ran:
        """See `Host.nvml`."""
        import sys

        # Without site (-S) the child starts sooner; what it may import it is told: this program's own path.
        script = f"{os.path.dirname(os.path.abspath(__file__))}/nvml.py"
        argv = [sys.executable, "-I", "-S", "-B", script, *filter(None, sys.path)]
        return _run(argv, environ, None, timeout_s)

    @contextmanager
    def temporary(self, files: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
        """See `Host.temporary`."""
        import tempfile

        # Not tempfile's own choice of place: it goes past a TMPDIR that is full, which compilers do not.
        named = (environ.get(name) for name in ("TMPDIR", "TMP", "TEMP"))
        usable = (
            place for place in (*named, "/tmp", "/var/tmp") if place and os.access(place, os.W_OK | os.X_OK)
        )
        place = next((os.path.abspath(place) for place in usable if os.path.isdir(place)), None)
        if place is None:
            raise FileNotFoundError(errno.ENOENT, "no folder for temporary files can be written to", "/tmp")
        with tempfile.TemporaryDirectory(
            prefix="cudadoctor-", dir=place, ignore_cleanup_errors=True
        ) as folder:
            _folders.add(folder)
            for name, text in files.items():
                with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                    file.write(text)
            yield folder
        _folders.discard(folder)

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
        # Two lines of a text file: psutil, which takes longer to import than a whole run, is for systems
        # that have no such file.
        try:
            found = dict(_MEMINFO.findall(self.read("/proc/meminfo", 1 << 16)))
            return Memory(int(found[b"MemTotal"]) << 10, int(found[b"MemAvailable"]) << 10)
        except (OSError, KeyError):
            import psutil

            memory = psutil.virtual_memory()
            return Memory(memory.total, memory.available)

    def cores(self) -> int:
        """See `Host.cores`."""
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    def uname(self) -> tuple[str, str, str]:
        """See `Host.uname`."""
        name = os.uname()
        return name.sysname, name.release, name.machine

    def release(self) -> str:
        """See `Host.release`."""
        # One line of os-release is all that is asked for: importing distro costs as much as a probe, and is
        # for systems that state their name elsewhere.
        for file in ("/etc/os-release", "/usr/lib/os-release"):
            try:
                match = _PRETTY_NAME.search(self.read(file, 1 << 16).decode("utf-8", "replace"))
            except OSError:
                continue
            if match:
                return match[2].strip()
        import distro

        return distro.name(pretty=True)


_MEMINFO = re.compile(rb"^(MemTotal|MemAvailable): +(\d+) kB$", re.MULTILINE)
_PRETTY_NAME = re.compile(r"""^PRETTY_NAME=(["']?)([^"'\n\\$]+)\1\s*$""", re.MULTILINE)


def _regular(path: str) -> os.stat_result:
    """Return the status of a regular file, raise NotRegular for anything else."""
    try:
        found = os.stat(path)
    except ValueError as error:
        raise _no_path(path, error) from None
    if not _stat.S_ISREG(found.st_mode):
        raise NotRegular(errno.EINVAL, "not a regular file", path)
    return found


def _no_path(path: str, error: ValueError) -> OSError:
    """Return the OSError for a text that the system cannot even be asked about."""
    return OSError(errno.EINVAL, f"not a path: {error}", path)


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
    _running.add(process)
    try:
        return _gather(process, timeout_s)
    finally:
        _running.discard(process)
        _end(process)


_running: set[subprocess.Popen[bytes]] = set()
_folders: set[str] = set()


def leave_nothing() -> None:
    """Kill every program that still runs and remove every temporary folder: for an end before their time."""
    for process in tuple(_running):
        _end(process)
    for folder in tuple(_folders):
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def _gather(process: subprocess.Popen[bytes], timeout_s: float) -> Ran:
    """Read both streams until they close, the time is over or a flood makes reading on pointless."""
    import selectors
    import time

    assert process.stdout is not None and process.stderr is not None
    deadline = time.monotonic() + timeout_s
    taken: dict[int, bytearray] = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    stdout, stderr = taken.values()
    flooded = False
    with selectors.DefaultSelector() as selector:
        for fd in taken:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map() and not flooded and (left := deadline - time.monotonic()) > 0:
            ready = selector.select(min(left, _LOOK_S))
            if not ready and process.poll() is not None:
                ready = selector.select(0)  # it may have written and ended since the first look
                if not ready:
                    break  # it left a child behind that keeps the streams open: a compiler cache's server
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                taken[key.fd] += chunk
                flooded = flooded or len(taken[key.fd]) > OUTPUT_LIMIT_BYTES
                if not chunk:
                    selector.unregister(key.fd)
    status = None if flooded else _wait(process, max(0.0, deadline - time.monotonic()))
    problem = f"printed more than {OUTPUT_LIMIT_BYTES >> 20} MiB" if flooded else ""
    ended = _KILLED if status is None else status
    return Ran(ended, _text(stdout), _text(stderr), status is None and not flooded, problem)


_LOOK_S = 0.05  #: how long to wait before asking whether the program has ended with its streams still open
_KILLED = -9


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    import subprocess

    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the streams; kill the process group of a child that still runs.

    The child leads its group because it was started in a session of its own. One that even SIGKILL does not
    end, as on a file system that does not answer, is left behind.
    """
    import signal

    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        _wait(process, 1.0)


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "surrogateescape")


def text_of(host: Host, path: str, limit_bytes: int = READ_LIMIT_BYTES) -> str:
    """Return a text file's content, "" where it cannot be read or is larger; what is no UTF-8 is marked."""
    try:
        return host.read(path, limit_bytes).decode("utf-8", "replace")
    except OSError:
        return ""


def names_in(host: Host, folder: str) -> list[str]:
    """Return the names in a folder, sorted; none where it cannot be listed."""
    try:
        return host.list(folder)
    except OSError:
        return []


def barred(host: Host, path: str) -> str:
    """Return the folder that keeps this user from seeing what stands at `path`, "" where none does.

    `Host.kind` says "" for what is not there and for what may not be seen: here the two are told apart.
    """
    try:
        host.size(path)
    except PermissionError:
        folder = host.realpath(path)
        while folder not in ("", "/") and not host.kind(folder):
            folder = folder.rpartition("/")[0]
        return folder or "/"
    except OSError:
        pass
    return ""


def which(host: Host, command: str, path: Sequence[str]) -> str:
    """Return the file that a shell would run for `command` with this PATH, or "".

    A command with a slash in it is looked for as it is. An empty entry is the current folder.
    """
    if "/" in command:
        return command if host.executable(command) else ""
    for folder in path:
        candidate = f"{folder}{'' if folder.endswith('/') else '/'}{command}" if folder else command
        if host.executable(candidate):
            return candidate
    return ""
