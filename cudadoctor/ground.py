"""The only place where files of the target are changed: relative to an opened folder, with no link followed.

A plan is made at one time and carried out at another, on ground that others may change in between. So each
step is looked at again right before it is done, in the very folder (an open descriptor) that it is done in,
and every way down from the root is walked without following a link: what is planted there leads nowhere.

Each step ends in one call that the file system does whole or not at all (mkdir, symlink, rename, unlink), so
that a process that is killed leaves what was before or what was wanted, and at most a temporary file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from cudadoctor.actions import (
    FOLDER_MODE,
    MakeFolder,
    MakeLink,
    MoveAside,
    RemoveLink,
    Step,
    TurnLink,
    Was,
    WriteFile,
)

State = Literal["before", "after"]

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIMIT_BYTES = 4 << 20


class Conflict(Exception):
    """Something stands in the way of a step: the path, and why."""


class Blocked(Conflict):
    """The folder that a step is in is not reached: on the way there something else has taken its place."""


class Ground:
    """Folders that may be changed, each held open from the time it was looked at."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots: dict[str, int | None] = {root: _open_root(root) for root in dict.fromkeys(roots)}

    def add(self, root: str) -> None:
        """Let a further folder be changed."""
        if root not in self._roots:
            self._roots[root] = _open_root(root)

    def miss(self, root: str) -> None:
        """Let a further folder, which is gone, be known: what was in it is gone too."""
        self._roots.setdefault(root, None)

    @property
    def roots(self) -> tuple[str, ...]:
        """Return the folders, as they were named."""
        return tuple(self._roots)

    def within(self, path: str) -> str:
        """Return the folder that `path` is in, or "" where it is in none."""
        inside = [root for root in self._roots if path.startswith(f"{root.rstrip('/')}/")]
        return max(inside, key=len, default="")

    @contextmanager
    def folder(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the folder that `path` is in and give it with the name in it; raise Conflict or OSError."""
        root = self.within(path)
        parts = path[len(root.rstrip("/")) + 1 :].split("/") if root else [""]
        if {"", ".", ".."} & set(parts):
            raise Conflict(f"{path}: not inside a folder that may be changed")
        top = self._roots[root]
        if top is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)
        fd = os.dup(top)
        try:
            for part in parts[:-1]:
                fd = _down(fd, part, path)
            yield fd, parts[-1]
        finally:
            os.close(fd)

    # --- looking --------------------------------------------------------------------------------------------

    def state(self, step: Step) -> State:
        """Return whether a step is still to be done or is done; raise Conflict where neither is so."""
        try:
            with self.folder(step_path(step)) as (fd, name):
                return _state(step, fd, name)
        except FileNotFoundError:
            if _makes(step):
                return "before"
            raise Conflict(f"{step_path(step)}: is gone") from None
        except OSError as error:
            raise Conflict(f"{step_path(step)}: {error.strerror}") from None

    def must_be_writable(self, path: str) -> None:
        """Raise Conflict unless we, and not just anyone, may write to the folder of `path`, made or not."""
        while True:
            try:
                with self.folder(path) as (fd, _):
                    _must_be_ours(fd, os.path.dirname(path))
                    return
            except FileNotFoundError:
                path = os.path.dirname(path)

    def must_be_allowed(self, path: str) -> None:
        """Raise Conflict where we may not write to the folder of `path`; one that is gone is not asked."""
        folder = os.path.dirname(path)
        try:
            with self.folder(path) as (fd, _):
                _must_be_allowed(fd, folder)
        except (FileNotFoundError, Blocked):
            pass
        except OSError as error:
            raise Conflict(f"{folder}: {error.strerror}") from None

    def read(self, path: str) -> Was | None:
        """Return a regular file as it is, or None where nothing is; raise Conflict for anything else."""
        try:
            with self.folder(path) as (fd, name):
                return _was(fd, name, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Conflict(f"{path}: {error.strerror}") from None

    # --- doing and undoing ----------------------------------------------------------------------------------

    def do(self, step: Step, mark: str) -> bool:
        """Carry a step out; `mark` names its temporary file. Raise Conflict with nothing done, or OSError.

        False: it was done already, by someone else.
        """
        _must_be_names(step, mark)
        path = step_path(step)
        with _told_of(path), self.folder(path) as (fd, name), exact_modes():
            if _state(step, fd, name) == "after":
                return False
            try:
                _do(step, fd, name, mark)
            except FileExistsError:
                raise Conflict(f"{path}: something was put there just now") from None
            os.fsync(fd)
            return True

    def undo(self, step: Step, mark: str, *, force: bool = False) -> str:
        """Take a step back; raise Conflict where what it made was changed since, or OSError.

        With `force` what stands there now makes way: it is kept beside under the name that is returned. What
        there is nothing left of to bring back, or no folder to bring it back into, then stays gone.
        """
        _must_be_names(step, mark)
        path = step_path(step)
        try:
            with _told_of(path), self.folder(path) as (fd, name), exact_modes():
                aside = f"{mark}.was"
                kept = aside if _lstat(fd, aside) else ""  # by an undo that was killed
                try:
                    if _state(step, fd, name) == "before":
                        return kept
                    _undo(step, fd, name, mark)
                except Conflict:
                    if not force:
                        raise
                    kept = _make_way(fd, name, aside) or kept
                    _restore(step, fd, name, mark)
                os.fsync(fd)
                return kept
        except FileNotFoundError:
            if force or _makes(step):
                return ""  # the folder that it was in has gone since, and it with it
            raise Conflict(f"{path}: the folder it was in is gone") from None
        except Blocked:
            if force:
                return ""  # what has taken the folder's place is none of ours
            raise

    def clean(self, step: Step, mark: str) -> None:
        """Remove the temporary file that a killed run may have left."""
        _must_be_names(step, mark)
        path = step_path(step)
        try:
            with _told_of(f"{os.path.dirname(path)}/{mark}"), self.folder(path) as (fd, _):
                os.unlink(mark, dir_fd=fd)
        except (FileNotFoundError, Conflict):
            pass


def step_path(step: Step) -> str:
    """Return the path that a step changes."""
    path: str = getattr(step, "path", "")
    return path


def is_name(text: str) -> bool:
    """Return whether a text is a name in a folder, and leads nowhere else."""
    return text not in ("", ".", "..") and not {"/", "\0"} & set(text)


def _must_be_names(step: Step, mark: str) -> None:
    """Refuse names that would lead out of the opened folder: a journal can be somebody else's."""
    for name in (mark, step.aside) if isinstance(step, MoveAside) else (mark,):
        if not is_name(name):
            raise Conflict(f"{step_path(step)}: {name!r} is no name in its folder")


def _makes(step: Step) -> bool:
    """Return whether nothing stood where a step puts something."""
    return isinstance(step, (MakeFolder, MakeLink)) or (isinstance(step, WriteFile) and not step.before)


def _open_root(root: str) -> int:
    try:
        return os.open(root, FOLDER_FLAGS)
    except OSError as error:
        raise Conflict(f"{root}: {error.strerror}") from None


def _down(fd: int, part: str, path: str) -> int:
    """Return the folder `part` of `fd`, opened; close `fd` only then."""
    try:
        below = os.open(part, FOLDER_FLAGS, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Blocked(f"{path}: {part} on the way there is no folder (a link?)") from None
        raise
    os.close(fd)
    return below


def _must_be_ours(fd: int, path: str) -> None:
    found = os.fstat(fd)
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise Conflict(f"{path}: anyone may write there")
    _must_be_allowed(fd, path)


def _must_be_allowed(fd: int, path: str) -> None:
    try:
        # "." of the open folder: what it was opened by may lead elsewhere by now.
        allowed = os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True)
    except OSError as error:
        raise Conflict(f"{path}: {error.strerror}") from None
    if os.statvfs(fd).f_flag & os.ST_RDONLY:
        raise Conflict(f"{path}: is on a read-only file system")
    if not allowed:
        raise Conflict(f"{path}: may not be written to by this user")


def _lstat(fd: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _kind(found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    if stat.S_ISDIR(found.st_mode):
        return "a folder"
    return "a file" if stat.S_ISREG(found.st_mode) else "a special file"


def _state(step: Step, fd: int, name: str) -> State:
    """Return where a step stands; raise Conflict where what is there is neither of both."""
    found = _lstat(fd, name)
    match step:
        case MakeFolder():
            if found is None or stat.S_ISDIR(found.st_mode):
                return "before" if found is None else "after"
            raise Conflict(f"{step.path}: {_kind(found)} stands there")
        case MakeLink() | TurnLink() | RemoveLink():
            return _state_of_link(step, found, fd, name)
        case WriteFile():
            return _state_of_file(step, found, fd, name)
        case MoveAside():
            aside = _lstat(fd, step.aside)
            if found is None and aside is None:
                raise Conflict(f"{step.path}: is gone")
            if found is not None and aside is not None:
                raise Conflict(f"{step.path}: is there again, beside {step.aside}")
            return "before" if aside is None else "after"
    raise AssertionError(step)


def _state_of_link(
    step: MakeLink | TurnLink | RemoveLink, found: os.stat_result | None, fd: int, name: str
) -> State:
    text = os.readlink(name, dir_fd=fd) if found is not None and stat.S_ISLNK(found.st_mode) else None
    wanted = None if isinstance(step, RemoveLink) else step.text
    before = None if isinstance(step, MakeLink) else step.before
    if found is not None and text is None:
        raise Conflict(f"{step.path}: {_kind(found)} stands there")
    if text == wanted:
        return "after"
    if text == before:
        return "before"
    raise Conflict(f"{step.path}: " + ("is gone" if text is None else f"is a link to {text}"))


def _state_of_file(step: WriteFile, found: os.stat_result | None, fd: int, name: str) -> State:
    if found is None:
        if step.before is None:
            return "before"
        raise Conflict(f"{step.path}: is gone")
    now = _was(fd, name, step.path)
    if now is not None and (now.content, now.mode) == (step.content, step.mode):
        return "after"
    old = step.before
    if now is not None and old is not None and (now.content, now.mode) == (old.content, old.mode):
        return "before"
    raise Conflict(f"{step.path}: " + ("was changed by someone else" if old else "a file stands there"))


def _was(fd: int, name: str, path: str) -> Was | None:
    """Return a regular file, read through no link; None where nothing is. Never waits on a FIFO."""
    found = _lstat(fd, name)
    if found is None:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise Conflict(f"{path}: {_kind(found)} stands there")
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    try:
        now = os.fstat(file)
        if not stat.S_ISREG(now.st_mode) or now.st_size > _LIMIT_BYTES:
            raise Conflict(f"{path}: is no file of a size that belongs there")
        content = b"".join(iter(lambda: os.read(file, 1 << 16), b""))
        return Was(content, stat.S_IMODE(now.st_mode), now.st_mtime_ns)
    finally:
        os.close(file)


def _do(step: Step, fd: int, name: str, mark: str) -> None:
    match step:
        case MakeFolder():
            os.mkdir(name, FOLDER_MODE, dir_fd=fd)
            give_to_owner(fd, name)
        case MakeLink():
            os.symlink(step.text, name, dir_fd=fd)
            give_to_owner(fd, name)
        case TurnLink():
            _put_link(fd, name, step.text, mark)
        case RemoveLink():
            os.unlink(name, dir_fd=fd)
        case WriteFile():
            _put_file(fd, name, Was(step.content, step.mode, 0), mark)
        case MoveAside():
            os.rename(name, step.aside, src_dir_fd=fd, dst_dir_fd=fd)


def _undo(step: Step, fd: int, name: str, mark: str) -> None:
    match step:
        case MakeFolder():
            _remove_empty(fd, name)
        case MakeLink():
            os.unlink(name, dir_fd=fd)
        case TurnLink():
            _put_link(fd, name, step.before, mark)
        case RemoveLink():
            os.symlink(step.before, name, dir_fd=fd)
            give_to_owner(fd, name)
        case WriteFile() if step.before is None:
            os.unlink(name, dir_fd=fd)
        case WriteFile() if step.before is not None:
            _put_file(fd, name, step.before, mark)
        case MoveAside():
            os.rename(step.aside, name, src_dir_fd=fd, dst_dir_fd=fd)


def _remove_empty(fd: int, name: str) -> None:
    """Remove a folder that we made; what someone has put into it since keeps it."""
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _put_link(fd: int, name: str, text: str, mark: str) -> None:
    drop(fd, mark)
    os.symlink(text, mark, dir_fd=fd)
    try:
        give_to_owner(fd, mark)
        os.rename(mark, name, src_dir_fd=fd, dst_dir_fd=fd)
    except OSError:
        drop(fd, mark)
        raise


def _put_file(fd: int, name: str, file: Was, mark: str) -> None:
    """Write a file beside its place and put it there whole; `mtime_ns` 0 leaves the time as it is."""
    drop(fd, mark)
    owner = _lstat(fd, name)
    opened = os.open(
        mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd
    )
    try:
        try:
            view = memoryview(file.content)
            while view:
                view = view[os.write(opened, view) :]
            os.fchmod(opened, file.mode)
            if owner is not None and os.geteuid() == 0:
                os.fchown(opened, owner.st_uid, owner.st_gid)
            if file.mtime_ns:
                os.utime(opened, ns=(file.mtime_ns, file.mtime_ns))
            os.fsync(opened)
        finally:
            os.close(opened)
        if owner is None:
            give_to_owner(fd, mark)
        os.rename(mark, name, src_dir_fd=fd, dst_dir_fd=fd)
    except OSError:
        drop(fd, mark)
        raise


def drop(fd: int, name: str) -> None:
    """Remove a file of an opened folder, if it is there."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass


def give_to_owner(fd: int, made: str | int) -> None:
    """Let what root makes in a user's folder belong to that user; `made` is its name there, or it, opened."""
    folder = os.fstat(fd)
    if os.geteuid() != 0 or folder.st_uid == 0:
        return
    if isinstance(made, int):
        os.fchown(made, folder.st_uid, folder.st_gid)
    else:
        os.chown(made, folder.st_uid, folder.st_gid, dir_fd=fd, follow_symlinks=False)


def _make_way(fd: int, name: str, aside: str) -> str:
    """Give whatever stands there a name that nothing has; return that, or "" where nothing stands."""
    if _lstat(fd, name) is None:
        return ""
    free, number = aside, 1
    while _lstat(fd, free) is not None:
        number += 1
        free = f"{aside}-{number}"
    os.rename(name, free, src_dir_fd=fd, dst_dir_fd=fd)
    return free


def _restore(step: Step, fd: int, name: str, mark: str) -> None:
    """Put back what was before a step, where nothing stands now."""
    match step:
        case TurnLink() | RemoveLink():
            os.symlink(step.before, name, dir_fd=fd)
            give_to_owner(fd, name)
        case WriteFile() if step.before is not None:
            _put_file(fd, name, step.before, mark)
        case MoveAside() if _lstat(fd, step.aside) is not None:
            os.rename(step.aside, name, src_dir_fd=fd, dst_dir_fd=fd)


@contextmanager
def exact_modes() -> Iterator[None]:
    """Let modes be what a step says, whatever the umask."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _told_of(path: str) -> Iterator[None]:
    """Let an error name the whole path: the calls know the last part only."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = path, None
        raise
