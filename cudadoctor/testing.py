"""For tests, ours and a plug-in author's: a check judged on facts made by hand, a machine made in memory."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from cudadoctor.declare import Check
from cudadoctor.facts import SECTIONS, Facts, Unknown
from cudadoctor.host import FileId, Memory, NotRegular, Ran, Rights, Space, Stack, TooLarge
from cudadoctor.outcomes import Outcome

T = TypeVar("T")
Program = Callable[[Sequence[str], Mapping[str, str]], Ran]
_STACK = Stack(8192, None)
_MEMORY = Memory(64 << 30, 48 << 30)
_SPACE = Space(1, 100 << 30)
OWNER = 1000  #: the user id that files of a FakeHost belong to


def judge(name: str, facts: Facts | None = None, **sections: Any) -> Outcome:
    """Return how the check called `name` ends on `facts`, or on the sections given by name."""
    from cudadoctor.registry import load

    return load().checks[name].run(facts or Facts(**sections))


def named(name: str) -> Check:
    """Return the check called `name`."""
    from cudadoctor.registry import load

    return load().checks[name]


def unknown(reason: str = "could not be read") -> Facts:
    """Return facts in which every section is Unknown for `reason`."""
    return Facts(**{section: Unknown(reason) for section in SECTIONS})


class FakeHost:
    """A machine made in memory: files, links, programs and limits are what the test says.

    `files` maps a path to its bytes or text, to `Link(text)`, to `Special()`, or to an OSError that reading
    it raises, as does going below it. Folders come by themselves; a path that ends in "/" is an empty one, or
    with an OSError one that cannot be listed. `executables` are files that may be run; `programs` answer for
    a path or a name when it is run. `owners` are the user ids of files that do not belong to user OWNER.
    `nvml` is how the driver's management library answers, and `forbidden` is what this user may not read and
    write. `spaces` are file systems by the folder that they are mounted on, `lockless` those without locks,
    with the error.
    """

    def __init__(
        self,
        files: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        programs: Mapping[str, Program | str] | None = None,
        executables: Sequence[str] = (),
        *,
        arch: str = "x86_64",
        kernel: str = "6.1.0",
        home: str = "/home/ada",
        cwd: str = "/home/ada",
        own_prefix: str = "/opt/cudadoctor",
        stack: Stack = _STACK,
        memory: Memory = _MEMORY,
        cores: int = 8,
        release: str = "Debian GNU/Linux 12",
        owners: Mapping[str, int] | None = None,
        locked: Sequence[str] = (),
        nvml: Ran | None = None,
        forbidden: Sequence[str] = (),
        spaces: Mapping[str, Space] | None = None,
        lockless: Mapping[str, str] | None = None,
    ) -> None:
        self.environ: Mapping[str, str] = {"PATH": "/usr/bin:/bin", **(environ or {})}
        self._programs, self._locked = dict(programs or {}), frozenset(locked)
        self._executables = {*executables, *self._programs}
        self._home, self._cwd, self._own, self._release = home, cwd, own_prefix, release
        self._owners = dict(owners or {})
        self._nvml, self._forbidden = nvml, frozenset(forbidden)
        self._spaces, self._lockless = dict(spaces or {}), dict(lockless or {})
        self._stack, self._memory, self._cores, self._name = stack, memory, cores, ("Linux", kernel, arch)
        self._tree: dict[str, object] = {"/": _Folder()}
        for path in self._executables:
            if path.startswith("/"):
                self._plant(path, b"\x7fELF")
        for path, content in (files or {}).items():
            self._plant(path, content)
        for path in self._tree:
            if not isinstance(self._tree[path.rpartition("/")[0] or "/"], _Folder):
                raise ValueError(f"{path}: what it is in is no folder")

    def _plant(self, path: str, content: object) -> None:
        if path.endswith("/"):
            path, content = path.rstrip("/"), _Folder(content if isinstance(content, OSError) else None)
        parent = path.rpartition("/")[0]
        while parent and parent not in self._tree:
            self._tree[parent] = _Folder()
            parent = parent.rpartition("/")[0]
        self._tree[path] = content.encode() if isinstance(content, str) else content

    def _whole(self, path: str) -> str:
        return path if path.startswith("/") else f"{self._cwd}/{path}"

    def _resolve(self, path: str, follow: bool = True, links: int = 0) -> str:
        """Walk a path step by step, as the kernel does; raise what it would."""
        if not path:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        if "\0" in path:
            raise OSError(errno.EINVAL, "not a path: embedded null byte", path)
        at, parts = "", [part for part in self._whole(path).split("/") if part not in ("", ".")]
        into = path.endswith(("/", "/."))
        for index, part in enumerate(parts):
            at = at.rpartition("/")[0] if part == ".." else f"{at}/{part}"
            last = index == len(parts) - 1 and not into
            entry = self._tree.get(at or "/")
            if isinstance(entry, Link) and (follow or not last):
                if links == 40:
                    raise OSError(errno.ELOOP, "Too many levels of symbolic links", path)
                rest = "/".join([*parts[index + 1 :], *([""] if into else [])])
                base = entry.text if entry.text.startswith("/") else f"{at.rpartition('/')[0]}/{entry.text}"
                return self._resolve(f"{base}/{rest}" if rest or into else base, follow, links + 1)
            if not last and isinstance(entry, OSError):
                raise entry
            if not last and not isinstance(entry, _Folder):
                raise _missing(entry, path)
        return at or "/"

    def _entry(self, path: str, follow: bool = True) -> object:
        found = self._tree.get(self._resolve(path, follow))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return found

    def cwd(self) -> str:
        """See `Host.cwd`."""
        return self._cwd

    def home(self) -> str:
        """See `Host.home`."""
        return self._home

    def own_prefix(self) -> str:
        """See `Host.own_prefix`."""
        return self._own

    def read(self, path: str, limit_bytes: int = 4 << 20) -> bytes:
        """See `Host.read`."""
        data = self.head(path, limit_bytes + 1)
        if len(data) > limit_bytes:
            raise TooLarge(errno.EFBIG, f"larger than {limit_bytes >> 20} MiB", path)
        return data

    def head(self, path: str, count_bytes: int) -> bytes:
        """See `Host.head`."""
        entry = self._entry(path)
        if isinstance(entry, OSError):
            raise entry
        if not isinstance(entry, bytes):
            raise NotRegular(errno.EINVAL, "not a regular file", path)
        return entry[:count_bytes]

    def read_at(self, path: str, offset: int, count_bytes: int) -> bytes:
        """See `Host.read_at`."""
        return self.head(path, 1 << 40)[offset : offset + count_bytes]

    def size(self, path: str) -> int:
        """See `Host.size`."""
        return len(self.head(path, 1 << 40))

    def identity(self, path: str) -> FileId:
        """See `Host.identity`."""
        size_bytes = self.size(path)
        return FileId(0, list(self._tree).index(self._resolve(path)), size_bytes)

    def list(self, path: str) -> list[str]:
        """See `Host.list`."""
        entry = self._entry(path)
        if not isinstance(entry, _Folder):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
        if entry.error is not None:
            raise entry.error
        start = self._resolve(path).rstrip("/") + "/"
        inside = (path[len(start) :] for path in self._tree if path.startswith(start))
        return sorted({rest.split("/")[0] for rest in inside if rest})

    def kind(self, path: str, follow: bool = True) -> str:
        """See `Host.kind`."""
        try:
            entry = self._entry(path, follow)
        except OSError:
            return ""
        if isinstance(entry, Link):
            return "link"
        return (
            "directory" if isinstance(entry, _Folder) else "special" if isinstance(entry, Special) else "file"
        )

    def readlink(self, path: str) -> str:
        """See `Host.readlink`."""
        entry = self._entry(path, follow=False)
        if not isinstance(entry, Link):
            raise OSError(errno.EINVAL, "Invalid argument", path)
        return entry.text

    def realpath(self, path: str) -> str:
        """See `Host.realpath`."""
        if "\0" in path:
            return path
        at, rest, open_links = "", self._whole(path).split("/")[::-1], set()
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            if part == _DONE:
                open_links.discard(rest.pop())
                continue
            at = at.rpartition("/")[0] if part == ".." else f"{at}/{part}"
            entry = self._tree.get(at)
            if isinstance(entry, Link) and at not in open_links:
                open_links.add(at)
                rest += [at, _DONE, *entry.text.split("/")[::-1]]
                at = "" if entry.text.startswith("/") else at.rpartition("/")[0]
        return at or "/"

    def owner(self, path: str) -> int:
        """See `Host.owner`."""
        self._entry(path, follow=False)
        return self._owners.get(self._resolve(path, follow=False), OWNER)

    def rights(self, path: str) -> Rights:
        """See `Host.rights`; the bits are those that folders and programs have by custom."""
        self._entry(path)
        owner = self._owners.get(self._resolve(path), OWNER)
        return Rights(owner, owner, 0o755)

    def locked(self, path: str) -> bool:
        """See `Host.locked`."""
        return path in self._locked

    def executable(self, path: str) -> bool:
        """See `Host.executable`."""
        return self.kind(path) == "file" and self._resolve(path) in map(self.realpath, self._executables)

    def usable(self, path: str) -> bool:
        """See `Host.usable`."""
        return bool(self.kind(path)) and path not in self._forbidden

    def writable(self, path: str) -> bool:
        """See `Host.writable`."""
        if not self.kind(path) or {path, self._resolve(path)} & self._forbidden:
            return False
        return not self._mounted(self._spaces, self._resolve(path), _SPACE).read_only

    def space(self, path: str) -> Space:
        """See `Host.space`."""
        self._entry(path)
        return self._mounted(self._spaces, self._resolve(path), _SPACE)

    def lock_refused(self, path: str) -> str:
        """See `Host.lock_refused`."""
        if isinstance(self._entry(path), Special):
            raise NotRegular(errno.EINVAL, "not a regular file", path)
        return self._mounted(self._lockless, self._resolve(path), "")

    @staticmethod
    def _mounted(table: Mapping[str, T], path: str, otherwise: T) -> T:
        """Return what the table has for the innermost folder around a path."""
        around = [folder for folder in table if f"{path}/".startswith(f"{folder.rstrip('/')}/")]
        return table[max(around, key=len)] if around else otherwise

    def nvml(self, environ: Mapping[str, str], *, timeout_s: float = 5) -> Ran:
        """See `Host.nvml`; without an answer given, asking is a fault of the test or of the probe."""
        if self._nvml is None:
            raise AssertionError("NVML was asked on a machine without it")
        return self._nvml

    def run(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        cwd: str | None = None,
        timeout_s: float = 10,
    ) -> Ran:
        """See `Host.run`."""
        names = (argv[0], self.realpath(argv[0]), argv[0].rpartition("/")[2])
        program = next((self._programs[name] for name in names if name in self._programs), None)
        if program is None:
            return Ran(127, "", "", problem="No such file or directory")
        return Ran(0, program, "") if isinstance(program, str) else program(argv, environ)

    @contextmanager
    def temporary(self, files: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
        """See `Host.temporary`."""
        folder = f"{environ.get('TMPDIR') or '/tmp'}/cudadoctor-fake"
        self._plant(f"{folder}/", b"")
        for name, text in files.items():
            self._plant(f"{folder}/{name}", text)
        try:
            yield folder
        finally:
            for path in [path for path in self._tree if f"{path}/".startswith(f"{folder}/")]:
                del self._tree[path]

    def stack(self) -> Stack:
        """See `Host.stack`."""
        return self._stack

    def memory(self) -> Memory:
        """See `Host.memory`."""
        return self._memory

    def cores(self) -> int:
        """See `Host.cores`."""
        return self._cores

    def uname(self) -> tuple[str, str, str]:
        """See `Host.uname`."""
        return self._name

    def release(self) -> str:
        """See `Host.release`."""
        return self._release


class Link:
    """A symbolic link in a FakeHost."""

    def __init__(self, text: str) -> None:
        self.text = text


class Special:
    """A FIFO, socket or device in a FakeHost."""


class _Folder:
    def __init__(self, error: OSError | None = None) -> None:
        self.error = error


_DONE = "/"  #: after the parts of a link's text: the link whose path follows is resolved


def _missing(entry: object, path: str) -> OSError:
    if entry is None:
        return FileNotFoundError(errno.ENOENT, "No such file or directory", path)
    return NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
