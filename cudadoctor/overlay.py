"""The machine as it would be after a plan's steps: a `Host` over another one."""

from __future__ import annotations

import errno
import os
import posixpath
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from msgspec import Struct

from cudadoctor.actions import MakeFolder, MakeLink, MoveAside, RemoveLink, Step, TurnLink, WriteFile
from cudadoctor.host import (
    READ_LIMIT_BYTES,
    FileId,
    Host,
    Memory,
    NotRegular,
    Ran,
    Rights,
    Space,
    Stack,
    TooLarge,
)

T = TypeVar("T")

#: Linux follows 40 links on one way, takes paths of 4095 bytes and names of 255 (path_resolution(7) and
#: linux/limits.h, read 2026-11).
_LINKS = 40
_PATH_BYTES = 4095
_NAME_BYTES = 255
#: Before Python 3.13, realpath() left everything behind a link that leads back to itself as it was spelled.
_STOPS_AT_LOOPS = sys.version_info < (3, 13)


class _Moved(Struct, frozen=True):
    """What the base has at `back`, under another name."""

    back: str


#: What is at a place in place of what the base has there; None: nothing.
_Staged = MakeFolder | MakeLink | TurnLink | WriteFile | _Moved


class _Spot(Struct, frozen=True):
    """Where a walk along a path ended."""

    path: str  #: its real path after the steps, "" for the root
    back: str | None  #: the real path at which the base has it; None: the base has no such thing
    kind: str  #: as in `Host.kind`
    links: int = 0  #: how many links were followed on the way
    same: bool = True  #: no step touched the way, so that the base goes the same one
    fault: int = 0  #: why there is nothing here, an errno
    staged: _Staged | None = None


_ROOT = _Spot("", "", "directory")


class OverlayHost:
    """A machine as it would be after steps that are staged and not carried out.

    Only files differ: `run` and the rest are the base's own. `environ` takes the place of the base's. Steps
    are staged before the questions; questions may come from several threads.

    Each folder is resolved once, link by link, and remembered under each spelling that leads to it. Where no
    step touched the way to a file, the base is asked for it in the spelling of the question.
    """

    def __init__(self, base: Host, environ: Mapping[str, str] | None = None) -> None:
        self.environ: Mapping[str, str] = base.environ if environ is None else environ
        self._base = base
        self._staged: dict[str, dict[str, _Staged | None]] = {}  # real folder, name in it, what is there
        self._moves: list[tuple[str, str]] = []
        self._known = {"": _ROOT}  # a folder as spelled, where that leads

    # --- staging --------------------------------------------------------------------------------------------

    def stage(self, step: Step) -> None:
        """Let the machine be as after `step`, on top of what is staged; an Install changes no file here.

        The steps are valid ones: nothing stands where something new shall be.
        """
        if isinstance(step, MoveAside):
            self._move(step.path, step.aside)
        elif isinstance(step, RemoveLink):
            self._put(step.path, None)
        elif isinstance(step, (MakeFolder, MakeLink, TurnLink, WriteFile)):
            self._make_way(step.path.rpartition("/")[0])
            self._put(step.path, step)

    def _put(self, path: str, what: _Staged | None) -> None:
        folder, _, name = path.rpartition("/")
        self._staged.setdefault(folder, {})[name] = what
        self._known = {"": _ROOT}

    def _make_way(self, folder: str) -> None:
        missing = []
        while folder and not self.kind(folder, follow=False):
            missing.append(folder)
            folder = folder.rpartition("/")[0]
        for path in reversed(missing):
            self._put(path, MakeFolder(path))

    def _move(self, path: str, name: str) -> None:
        found = self._find(path, follow=False)
        if found.fault:
            return
        aside = posixpath.join(posixpath.dirname(path), name)
        for folder in [folder for folder in self._staged if f"{folder}/".startswith(f"{path}/")]:
            self._staged[aside + folder[len(path) :]] = self._staged.pop(folder)
        self._put(path, None)
        self._put(aside, found.staged or _Moved(found.back or ""))
        self._moves.append((path, aside))

    # --- walking --------------------------------------------------------------------------------------------

    def _spelled(self, path: str) -> str:
        """Return the path from the root; "" where it is the base's to answer: no path, or nothing staged."""
        if not self._staged or not path or len(path) > _PATH_BYTES or "\0" in path:
            return ""
        if not path.isascii() and not _fits(path, _PATH_BYTES):
            return ""
        if path.startswith("/"):
            return path
        cwd = self.cwd()
        return f"{cwd}/{path}" if cwd else ""

    def _walk(self, spelled: str, used: int = 0) -> _Spot:
        """Return what is at the end of the way, links followed; `used` links led to its beginning."""
        ahead = []
        while (spot := self._known.get(spelled)) is None:
            spelled, _, name = spelled.rpartition("/")
            ahead.append(name)
        while ahead:
            if spot.kind != "directory":
                # Said of the place that the walk came to, so that the base can be asked what is wrong there.
                fault = spot.fault or errno.ENOTDIR
                return _Spot("", spot.back, "", spot.links, spot.same, fault)
            name = ahead.pop()
            spot = self._step(spot, name, used)
            spelled = f"{spelled}/{name}"
            if spot.kind == "directory":
                self._known[spelled] = spot
        return spot

    def _step(self, at: _Spot, name: str, used: int) -> _Spot:
        if name in ("", "."):
            return at
        if name == "..":
            above = self._walk(at.path.rpartition("/")[0])
            return _Spot(above.path, above.back, above.kind, at.links, at.same)
        child = self._child(at, name)
        return self._through(child, used) if child.kind == "link" else child

    def _through(self, link: _Spot, used: int) -> _Spot:
        """Return what a link leads to."""
        links = link.links + 1
        if used + links > _LINKS:
            return _Spot("", None, "", links, link.same, errno.ELOOP)
        try:
            text = self._text(link)
        except OSError:  # it was there a moment ago
            return _Spot("", link.back, "", links, link.same, errno.ENOENT)
        start = text if text.startswith("/") else f"{link.path.rpartition('/')[0]}/{text}"
        end = self._walk(start, used + links)
        links += end.links
        same = link.same and end.same
        if used + links > _LINKS:
            return _Spot("", None, "", links, same, errno.ELOOP)
        return _Spot(end.path, end.back, end.kind, links, same, end.fault, end.staged)

    def _text(self, link: _Spot) -> str:
        if isinstance(link.staged, (MakeLink, TurnLink)):
            return link.staged.text
        return self._base.readlink(link.back or "")

    def _child(self, at: _Spot, name: str) -> _Spot:
        """Return what stands in a folder under a name, a link itself and not what it leads to."""
        path, inside = f"{at.path}/{name}", self._staged.get(at.path)
        if inside is not None and name in inside:
            return self._changed(path, inside[name], at.links)
        if at.back is None:
            fault = errno.ENOENT if _fits(name, _NAME_BYTES) else errno.ENAMETOOLONG
            return _Spot(path, None, "", at.links, False, fault)
        back = f"{at.back}/{name}"
        kind = self._base.kind(back, follow=False)
        return _Spot(path, back, kind, at.links, at.same, 0 if kind else errno.ENOENT)

    def _changed(self, path: str, what: _Staged | None, links: int) -> _Spot:
        if what is None:
            return _Spot(path, None, "", links, False, errno.ENOENT)
        if isinstance(what, _Moved):
            kind = self._base.kind(what.back, follow=False)
            return _Spot(path, what.back, kind, links, False, 0 if kind else errno.ENOENT, what)
        kind = {MakeFolder: "directory", WriteFile: "file"}.get(type(what), "link")
        return _Spot(path, None, kind, links, False, 0, what)

    def _find(self, spelled: str, follow: bool) -> _Spot:
        if follow or spelled.endswith(("/", "/.", "/..")):
            return self._walk(spelled)
        folder, _, name = spelled.rpartition("/")
        # The walk to "folder/." ends in a fault where that is no folder.
        at = self._known.get(folder) or self._walk(f"{folder}/.")
        return at if at.fault else self._child(at, name)

    # --- answering ------------------------------------------------------------------------------------------

    def _spot(self, path: str, follow: bool = True) -> _Spot | None:
        """Return where `path` leads; None where the base can be asked in this spelling. Raises OSError."""
        spelled = self._spelled(path)
        spot = self._find(spelled, follow) if spelled else _ROOT
        if spot.same:
            return None
        if spot.fault:
            raise self._error(spot, path)
        return spot

    def _error(self, spot: _Spot, path: str) -> OSError:
        """Return the error of a walk that failed; what is wrong at a place of the base the base says."""
        code = spot.fault
        if code == errno.ENOENT and spot.back:
            try:
                self._base.readlink(spot.back)
            except OSError as error:
                code = (error.errno or code) if error.errno != errno.EINVAL else code
        return OSError(code, os.strerror(code), path)

    def _file(self, spot: _Spot, path: str) -> WriteFile | None:
        """Return the staged file; None where the base has it. Raises NotRegular for a staged folder."""
        if isinstance(spot.staged, MakeFolder):
            raise NotRegular(errno.EINVAL, "not a regular file", path)
        return spot.staged if isinstance(spot.staged, WriteFile) else None

    def read(self, path: str, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
        """See `Host.read`."""
        if self._spot(path) is None:
            return self._base.read(path, limit_bytes)
        data = self.head(path, limit_bytes + 1)
        if len(data) > limit_bytes:
            raise TooLarge(errno.EFBIG, f"larger than {limit_bytes >> 20} MiB", path)
        return data

    def head(self, path: str, count_bytes: int) -> bytes:
        """See `Host.head`."""
        return self._content(path, lambda host, place: host.head(place, count_bytes), 0, count_bytes)

    def read_at(self, path: str, offset: int, count_bytes: int) -> bytes:
        """See `Host.read_at`."""
        return self._content(
            path, lambda host, place: host.read_at(place, offset, count_bytes), offset, count_bytes
        )

    def _content(self, path: str, ask: Callable[[Host, str], bytes], offset: int, count_bytes: int) -> bytes:
        if (spot := self._spot(path)) is None:
            return ask(self._base, path)
        if (file := self._file(spot, path)) is None:
            return _named(path, lambda: ask(self._base, spot.back or "/"))
        if not _may(file.mode, 0o4):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return file.content[offset : offset + max(0, count_bytes)]

    def size(self, path: str) -> int:
        """See `Host.size`."""
        if (spot := self._spot(path)) is None:
            return self._base.size(path)
        if (file := self._file(spot, path)) is None:
            return _named(path, lambda: self._base.size(spot.back or "/"))
        return len(file.content)

    def identity(self, path: str) -> FileId:
        """See `Host.identity`; what is staged has a device of its own."""
        if (spot := self._spot(path)) is None:
            return self._base.identity(path)
        if (file := self._file(spot, path)) is None:
            return _named(path, lambda: self._base.identity(spot.back or "/"))
        return FileId(-1, hash(spot.path), len(file.content))

    def list(self, path: str) -> list[str]:
        """See `Host.list`."""
        spelled = self._spelled(path)
        spot = self._walk(spelled) if spelled else _ROOT
        inside = self._staged.get(spot.path) if spelled and spot.kind == "directory" else None
        if spot.same and inside is None:
            return self._base.list(path)
        if spot.fault:
            raise self._error(spot, path)
        back = spot.back
        if spot.kind != "directory":
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        names = set() if back is None else set(_named(path, lambda: self._base.list(back or "/")))
        for name, what in (inside or {}).items():
            (names.discard if what is None else names.add)(name)
        return sorted(names)

    def kind(self, path: str, follow: bool = True) -> str:
        """See `Host.kind`."""
        spelled = self._spelled(path)
        if not spelled:
            return self._base.kind(path, follow)
        spot = self._find(spelled, follow)
        if not spot.fault:
            return spot.kind
        # Links in /proc lead to what their text does not name, and a current folder may be out of reach by
        # its path: the kernel gets through where no path does.
        if spot.same and (spot.links or spelled is not path):
            return self._base.kind(path, follow)
        return ""

    def readlink(self, path: str) -> str:
        """See `Host.readlink`."""
        if (spot := self._spot(path, follow=False)) is None:
            return self._base.readlink(path)
        if spot.kind != "link":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return _named(path, lambda: self._text(spot))

    def realpath(self, path: str) -> str:
        """See `Host.realpath`."""
        spelled = self._spelled(path) if path else ""
        if not spelled:
            return self._base.realpath(path) if path or not self._moves else self.cwd()
        spot = self._walk(spelled)
        # Without a name the walk broke off on the way; realpath goes on from there by the letter.
        return spot.path or ("/" if spot.kind else self._by_the_letter(spelled))

    def _by_the_letter(self, spelled: str) -> str:
        """Do as os.path.realpath does with a path that the kernel does not get through."""
        at, seen = "/", dict[str, str]()
        levels = [("", spelled)]  # each link that is being resolved, and what is left of its text
        while levels:
            link, rest = levels[-1]
            if not rest:
                seen[link] = at
                levels.pop()
                continue
            name, _, rest = rest.partition("/")
            levels[-1] = (link, rest)
            new = posixpath.normpath(posixpath.join(at, name))
            if name in ("", ".", "..") or (text := self._link(new)) is None:
                at = new
            elif new in seen:
                at = seen[new]
            elif new not in (link for link, _ in levels):
                levels.append((new, text))
                at = "/" if text.startswith("/") else at
            elif _STOPS_AT_LOOPS:
                return posixpath.normpath(posixpath.join(new, *(rest for _, rest in reversed(levels))))
            else:
                at = new
        return at

    def _link(self, path: str) -> str | None:
        try:
            return self.readlink(path)
        except OSError:
            return None

    def executable(self, path: str) -> bool:
        """See `Host.executable`."""
        try:
            spot = self._spot(path)
        except OSError:
            return False
        if spot is None:
            return self._base.executable(path)
        if isinstance(spot.staged, WriteFile):
            return _may(spot.staged.mode, 0o1)
        return spot.back is not None and self._base.executable(spot.back or "/")

    def usable(self, path: str) -> bool:
        """See `Host.usable`."""
        try:
            spot = self._spot(path)
        except OSError:
            return False
        if spot is None:
            return self._base.usable(path)
        if isinstance(spot.staged, WriteFile):
            return os.getuid() == 0 or (spot.staged.mode >> 6 & 0o6) == 0o6
        return spot.back is None or self._base.usable(spot.back or "/")

    def writable(self, path: str) -> bool:
        """See `Host.writable`; what is staged is ours."""
        try:
            spot = self._spot(path)
        except OSError:
            return False
        if spot is None:
            return self._base.writable(path)
        if isinstance(spot.staged, WriteFile):
            return os.geteuid() == 0 or bool(spot.staged.mode & 0o200)
        return spot.back is None or self._base.writable(spot.back or "/")

    def space(self, path: str) -> Space:
        """See `Host.space`; what is staged will be on the file system of the folder that it is put into."""
        if (spot := self._spot(path)) is None:
            return self._base.space(path)
        return _named(path, lambda: self._base.space(self._ground(spot)))

    def lock_refused(self, path: str) -> str:
        """See `Host.lock_refused`; for what is staged the folder that it is put into is asked."""
        if (spot := self._spot(path)) is None:
            return self._base.lock_refused(path)
        return _named(path, lambda: self._base.lock_refused(self._ground(spot)))

    def _ground(self, spot: _Spot) -> str:
        """Return the nearest place of the base at or above a spot."""
        while spot.back is None:
            spot = self._walk(spot.path.rpartition("/")[0])
        return spot.back or "/"

    def owner(self, path: str) -> int:
        """See `Host.owner`; what is staged is ours."""
        spot = self._spot(path, follow=False)
        if spot is None:
            return self._base.owner(path)
        back = spot.back
        return os.geteuid() if back is None else _named(path, lambda: self._base.owner(back or "/"))

    def rights(self, path: str) -> Rights:
        """See `Host.rights`; what is staged is ours, and has the bits that it will be given."""
        if (spot := self._spot(path)) is None:
            return self._base.rights(path)
        if spot.back is None:
            mode = spot.staged.mode if isinstance(spot.staged, WriteFile) else 0o755
            return Rights(os.geteuid(), os.getegid(), mode)
        return _named(path, lambda: self._base.rights(spot.back or "/"))

    def locked(self, path: str) -> bool:
        """See `Host.locked`; nobody holds a file that is yet to be written."""
        try:
            spot = self._spot(path)
        except OSError:
            return False
        if spot is None:
            return self._base.locked(path)
        return spot.back is not None and self._base.locked(spot.back or "/")

    # --- the base's own -------------------------------------------------------------------------------------

    def cwd(self) -> str:
        """See `Host.cwd`; a folder that was moved aside is still where we are."""
        cwd = self._base.cwd()
        for path, aside in self._moves:
            if f"{cwd}/".startswith(f"{path}/"):
                cwd = aside + cwd[len(path) :]
        return cwd

    def home(self) -> str:
        """See `Host.home`."""
        home = self.environ.get("HOME")
        return home if home and home != self._base.environ.get("HOME") else self._base.home()

    def own_prefix(self) -> str:
        """See `Host.own_prefix`."""
        return self._base.own_prefix()

    def run(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        cwd: str | None = None,
        timeout_s: float = 10,
    ) -> Ran:
        """See `Host.run`: the program sees the machine as it is."""
        return self._base.run(argv, environ, cwd=cwd, timeout_s=timeout_s)

    def nvml(self, environ: Mapping[str, str], *, timeout_s: float = 5) -> Ran:
        """See `Host.nvml`: no step changes a driver."""
        return self._base.nvml(environ, timeout_s=timeout_s)

    def temporary(self, files: Mapping[str, str], environ: Mapping[str, str]) -> AbstractContextManager[str]:
        """See `Host.temporary`."""
        return self._base.temporary(files, environ)

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


def _fits(text: str, limit_bytes: int) -> bool:
    """Return whether the system can be asked about a path or name: it can be encoded, and is not too long."""
    try:
        return len(os.fsencode(text)) <= limit_bytes
    except UnicodeEncodeError:
        return False


def _may(mode: int, bit: int) -> bool:
    """Return whether whoever writes a file with this mode may read (4) or run (1) it."""
    if os.getuid() == 0:
        return bit == 0o4 or bool(mode & 0o111)
    return bool(mode & bit << 6)


def _named(path: str, call: Callable[[], T]) -> T:
    """Return what the base says of a file at its place there; its error names the path that was asked for."""
    try:
        return call()
    except OSError as error:
        raise again(error, path) from None


def again(error: OSError, path: object = None) -> OSError:
    """Return the error anew: one that is raised twice would carry both ways on which it went."""
    if error.errno is None:
        return type(error)(*error.args)
    return type(error)(error.errno, error.strerror, error.filename if path is None else path)
